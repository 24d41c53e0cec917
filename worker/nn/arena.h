/* One aligned block of memory for a workspace. The owner writes one function that takes its arrays in order; it runs
 * once on an empty arena to measure and once on the allocated block to place:
 *
 *   struct arena a = {0};
 *   carve(ws, &a);                              // every take returns NULL, sizes add up
 *   if (arena_allocate(&a) != 0) return ERR_MEMORY;
 *   carve(ws, &a);                              // the same takes return addresses
 */
#ifndef DECANT_WORKER_NN_ARENA_H
#define DECANT_WORKER_NN_ARENA_H

#include "worker/nn/real.h"

struct arena {
    unsigned char *base; /* NULL while measuring; the owner frees it */
    size_t used;         /* bytes taken so far */
};

real *arena_reals(struct arena *a, size_t n);       /* 64-byte aligned */
uint32_t *arena_offsets(struct arena *a, size_t n); /* 64-byte aligned */
/* The offsets 0, stride, 2 stride ... of n rows, once there is memory for them. */
uint32_t *arena_strides(struct arena *a, size_t n, size_t stride);
/* Allocates what was measured, zeroed, and rewinds. 0 or ERR_MEMORY. */
int arena_allocate(struct arena *a);
void arena_free(struct arena *a);

#endif
