/* Columns of a row-major matrix a few vectors at a time: a chunk's sums and coefficients stay in registers while the
 * rows go by, whatever the number of columns. DO(lanes) runs with `c`, the first column of the chunk, and `lanes`,
 * which is constant unless there are fewer than 16 columns in all:
 *
 *   #define DO(lanes) sum_chunk(x + c, rows, n, lanes, sum + c)
 *   EACH_CHUNK(n)
 *   #undef DO
 *
 * where sum_chunk is INLINE and keeps its sums in an array of CHUNK_MAX. 24 columns, the first width of the recipe,
 * are a chunk of their own. The last chunk may repeat columns of the one before, so what it does to a column must
 * not depend on what was done to it before: results are overwritten. */
#ifndef DECANT_WORKER_NN_CHUNKS_H
#define DECANT_WORKER_NN_CHUNKS_H

enum { CHUNK_MIN = 16, CHUNK_MAX = 32 };

#define EACH_CHUNK(n)                                                                                                  \
    {                                                                                                                  \
        size_t c = 0;                                                                                                  \
        for (; c + CHUNK_MAX <= (n); c += CHUNK_MAX)                                                                   \
            DO(CHUNK_MAX);                                                                                             \
        if ((n) == 24) {                                                                                               \
            DO(24);                                                                                                    \
        } else if (c < (n) && (n) < CHUNK_MIN) {                                                                       \
            DO((n));                                                                                                   \
        } else {                                                                                                       \
            for (; c < (n); c += CHUNK_MIN) {                                                                          \
                c = c + CHUNK_MIN <= (n) ? c : (n)-CHUNK_MIN;                                                          \
                DO(CHUNK_MIN);                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
    }

#endif
