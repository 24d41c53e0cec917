/* Softmax over short rows; see scores.h. */
#include "worker/nn/scores.h"

#include "common/kernels.h"
#include "worker/nn/scalar.h"

/* Lanes from `kept` on, which may be negative, become as low as matters. */
INLINE void hide_lanes(real *x, size_t kept)
{
    vector_bits hidden = VECTOR_LANES >= (vector_bits){0} + (lane_bits)kept;
    vector low = (vector){0} + REAL(-1e30);
    *(vector *)x = (vector)((hidden & (vector_bits)low) | (~hidden & (vector_bits)VECTOR_AT(x)));
}

/* The ends of all rows first: a wide read of what was just written in parts would wait until that is in the cache. */
STATIC_KERNEL(void, normalise, (size_t rows, size_t n, size_t length, real scale, real *restrict x),
              (rows, n, length, scale, x))
{
    for (size_t r = 0; r < rows; r++)
        for (size_t j = n / VECTOR * VECTOR; j < length; j += VECTOR)
            hide_lanes(x + r * length + j, n - j);
    for (size_t r = 0; r < rows; r++, x += length) {
        real most = vector_max(x, length);
        for (size_t j = 0; j < length; j++)
            x[j] = real_exp(scale * (x[j] - most));
        real inverse = 1 / vector_sum(x, length);
        for (size_t j = 0; j < length; j++)
            x[j] *= inverse;
    }
}

void scores_normalise(size_t rows, size_t n, real scale, real *x)
{
    normalise(rows, n, scores_length((uint32_t)n), scale, x);
}

STATIC_KERNEL(void, gradient, (size_t rows, size_t length, const real *restrict p, real scale, real *restrict d),
              (rows, length, p, scale, d))
{
    for (size_t r = 0; r < rows; r++, p += length, d += length) {
        real along = vector_dot(p, d, length);
        for (size_t i = 0; i < length; i++)
            d[i] = scale * p[i] * (d[i] - along);
    }
}

void scores_gradient(size_t rows, size_t n, const real *restrict p, real scale, real *restrict d)
{
    gradient(rows, scores_length((uint32_t)n), p, scale, d);
}
