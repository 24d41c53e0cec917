/* Means over pixels; see pool.h. */
#include "worker/nn/pool.h"

#include <string.h>

void pool_mean(const real *y, size_t pixels, size_t channels, real *mean)
{
    memset(mean, 0, channels * sizeof(real));
    for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < channels; c++)
            mean[c] += y[p * channels + c];
    for (size_t c = 0; c < channels; c++)
        mean[c] /= (real)pixels;
}

void pool_spread(const real *d_mean, size_t n, size_t pixels, size_t channels, real *d_y)
{
    for (size_t i = 0; i < n * pixels; i++)
        for (size_t c = 0; c < channels; c++)
            d_y[i * channels + c] = d_mean[i / pixels * channels + c] / (real)pixels;
}
