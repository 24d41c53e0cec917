/* Column sums; see columns.h. */
#include "worker/nn/columns.h"

#include <string.h>
#include "common/kernels.h"
#include "worker/nn/chunks.h"
#include "worker/nn/vector.h"

INLINE void sum_chunk(const real *restrict x, size_t rows, size_t n, const size_t lanes, real *restrict sum)
{
    real sums[CHUNK_MAX] = {0};
    size_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * n)
        for (size_t j = 0; j < lanes; j++)
            sums[j] += (x[j] + x[n + j]) + (x[2 * n + j] + x[3 * n + j]);
    for (; r < rows; r++, x += n)
        for (size_t j = 0; j < lanes; j++)
            sums[j] += x[j];
    memcpy(sum, sums, lanes * sizeof(real));
}

KERNEL(void, columns_sum, (const real *restrict x, size_t rows, size_t n, real *restrict sum), (x, rows, n, sum)){
#define DO(lanes) sum_chunk(x + c, rows, n, lanes, sum + c)
    EACH_CHUNK(n)
#undef DO
}

INLINE void squares_chunk(const real *restrict x, size_t rows, size_t n, const real *restrict center,
                          const size_t lanes, real *restrict sum)
{
    real sums[CHUNK_MAX] = {0};
    size_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * n)
        for (size_t j = 0; j < lanes; j++) {
            real a = x[j] - center[j], b = x[n + j] - center[j];
            real c = x[2 * n + j] - center[j], d = x[3 * n + j] - center[j];
            sums[j] += (a * a + b * b) + (c * c + d * d);
        }
    for (; r < rows; r++, x += n)
        for (size_t j = 0; j < lanes; j++)
            sums[j] += (x[j] - center[j]) * (x[j] - center[j]);
    memcpy(sum, sums, lanes * sizeof(real));
}

KERNEL(void, columns_sum_squares,
       (const real *restrict x, size_t rows, size_t n, const real *restrict center, real *restrict sum),
       (x, rows, n, center, sum))
{
#define DO(lanes) squares_chunk(x + c, rows, n, center + c, lanes, sum + c)
    EACH_CHUNK(n)
#undef DO
}
