/* Room for floats or indices, on lines of the cache. */
#ifndef DECANT_WORKER_WORDS_H
#define DECANT_WORKER_WORDS_H

#include <stdint.h>
#include <stdlib.h>

/* Room for n of them, for free(); NULL when out of memory. */
static inline void *words(size_t n)
{
    void *p = NULL;
    return posix_memalign(&p, 64, (n > 0 ? n : 1) * sizeof(float)) == 0 ? p : NULL;
}

/* 0, stride, 2 stride ..., n of them. */
static inline uint32_t *words_apart(size_t n, size_t stride)
{
    uint32_t *at = (uint32_t *)words(n);
    for (size_t i = 0; at && i < n; i++)
        at[i] = (uint32_t)(i * stride);
    return at;
}

#endif
