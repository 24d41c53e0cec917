/* The smaller of two sizes: the next piece of what is cut into pieces, at_most(n - done, BLOCK). */
#ifndef DECANT_COMMON_AT_MOST_H
#define DECANT_COMMON_AT_MOST_H

#include <stddef.h>

static inline size_t at_most(size_t n, size_t limit)
{
    return n < limit ? n : limit;
}

#endif
