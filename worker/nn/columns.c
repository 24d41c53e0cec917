/* Column sums; see columns.h. */
#include "worker/nn/columns.h"

#include "common/kernels.h"

KERNEL(void, columns_sum, (const real *restrict x, size_t rows, size_t n, real *restrict sum), (x, rows, n, sum))
{
    memset(sum, 0, n * sizeof(real));
    size_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * n)
        for (size_t j = 0; j < n; j++)
            sum[j] += (x[j] + x[n + j]) + (x[2 * n + j] + x[3 * n + j]);
    for (; r < rows; r++, x += n)
        for (size_t j = 0; j < n; j++)
            sum[j] += x[j];
}

KERNEL(void, columns_sum_squares,
       (const real *restrict x, size_t rows, size_t n, const real *restrict center, real *restrict sum),
       (x, rows, n, center, sum))
{
    memset(sum, 0, n * sizeof(real));
    size_t r = 0;
    for (; r + 4 <= rows; r += 4, x += 4 * n)
        for (size_t j = 0; j < n; j++) {
            real a = x[j] - center[j], b = x[n + j] - center[j];
            real c = x[2 * n + j] - center[j], d = x[3 * n + j] - center[j];
            sum[j] += (a * a + b * b) + (c * c + d * d);
        }
    for (; r < rows; r++, x += n)
        for (size_t j = 0; j < n; j++)
            sum[j] += (x[j] - center[j]) * (x[j] - center[j]);
}
