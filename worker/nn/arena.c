/* Bump allocation in two passes; see arena.h. */
#include "worker/nn/arena.h"

#include <stdlib.h>
#include <string.h>
#include "common/error.h"

enum { ARENA_ALIGN = 64 }; /* a cache line, and the widest vector */

static void *arena_take(struct arena *a, size_t bytes)
{
    void *at = a->base ? a->base + a->used : NULL;
    a->used += (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    return at;
}

real *arena_reals(struct arena *a, size_t n)
{
    return arena_take(a, n * sizeof(real));
}

uint32_t *arena_offsets(struct arena *a, size_t n)
{
    return arena_take(a, n * sizeof(uint32_t));
}

uint32_t *arena_strides(struct arena *a, size_t n, size_t stride)
{
    uint32_t *table = arena_offsets(a, n);
    for (size_t i = 0; table && i < n; i++)
        table[i] = (uint32_t)(i * stride);
    return table;
}

int arena_allocate(struct arena *a)
{
    ASSERT(a->base == NULL);
    size_t bytes = a->used ? a->used : ARENA_ALIGN;
    a->base = aligned_alloc(ARENA_ALIGN, bytes);
    if (!a->base)
        return ERR_MEMORY;
    memset(a->base, 0, bytes);
    a->used = 0;
    return 0;
}

void arena_free(struct arena *a)
{
    free(a->base);
    *a = (struct arena){0};
}
