/* Per channel first (vectorised over channels), then per group; see groupnorm.h. */
#include "worker/nn/groupnorm.h"

#include <math.h>
#include <string.h>
#include "common/kernels.h"
#include "worker/nn/chunks.h"
#include "worker/nn/vector.h"
#include "worker/nn/columns.h"

#define EPSILON REAL(1e-5)

/* group[i] = scale * sum of channel[c] over the channels of group i. */
static void sum_groups(const struct groupnorm *g, const real *channel, real scale, real *group)
{
    uint32_t size = g->channels / g->groups;
    for (uint32_t i = 0; i < g->groups; i++)
        group[i] = 0;
    for (uint32_t c = 0; c < size; c++) /* outside, so that the additions of all groups overlap */
        for (uint32_t i = 0; i < g->groups; i++)
            group[i] += channel[i * size + c];
    for (uint32_t i = 0; i < g->groups; i++)
        group[i] *= scale;
}

void groupnorm_center(const struct groupnorm *g, const real *statistics, real *center)
{
    uint32_t size = g->channels / g->groups;
    for (uint32_t i = 0; i < g->groups; i++)
        for (uint32_t c = 0; c < size; c++)
            center[i * size + c] = statistics[i];
}

static real inverse_count(const struct groupnorm *g)
{
    uint32_t channels = g->channels / g->groups;
    return 1 / ((real)g->height * (real)g->width * (real)channels);
}

void groupnorm_affine(const struct groupnorm *g, const real *statistics, const real *gamma, const real *beta,
                      real *slope, real *shift)
{
    uint32_t size = g->channels / g->groups;
    for (uint32_t i = 0; i < g->groups; i++) {
        real mean = statistics[i], inverse = statistics[g->groups + i];
        for (uint32_t c = i * size; c < (i + 1) * size; c++) {
            slope[c] = gamma[c] * inverse;
            shift[c] = beta[c] - mean * slope[c];
        }
    }
}

INLINE void apply_chunk(const struct groupnorm *g, const real *restrict x, const real *restrict slope,
                        const real *restrict shift, const size_t lanes, real *restrict y, size_t row)
{
    size_t n = g->channels;
    for (uint32_t i = 0; i < g->height; i++, y += row - g->width * n)
        for (uint32_t j = 0; j < g->width; j++, x += n, y += n)
            for (size_t k = 0; k < lanes; k++) {
                real u = slope[k] * x[k] + shift[k];
                y[k] = u > 0 ? u : 0;
            }
}

STATIC_KERNEL(void, apply,
              (const struct groupnorm *g, const real *restrict x, const real *restrict slope,
               const real *restrict shift, real *restrict y, size_t row),
              (g, x, slope, shift, y, row))
{
#define DO(lanes) apply_chunk(g, x + c, slope + c, shift + c, lanes, y + c, row)
    EACH_CHUNK(g->channels)
#undef DO
}

void groupnorm_statistics(const struct groupnorm *g, const real *x, real *statistics, real *scratch)
{
    size_t pixels = (size_t)g->height * g->width, n = g->channels;
    real *channel = scratch, *center = scratch + n, *mean = statistics, *inverse = statistics + g->groups;
    columns_sum(x, pixels, n, channel);
    sum_groups(g, channel, inverse_count(g), mean);
    groupnorm_center(g, statistics, center);
    columns_sum_squares(x, pixels, n, center, channel);
    sum_groups(g, channel, inverse_count(g), inverse);
    for (uint32_t i = 0; i < g->groups; i++)
        inverse[i] = 1 / (real)sqrt(inverse[i] + EPSILON);
}

void groupnorm_relu_forward(const struct groupnorm *g, const real *x, const real *gamma, const real *beta,
                            real *statistics, real *y, size_t row, real *scratch)
{
    real *slope = scratch, *shift = scratch + g->channels;
    groupnorm_statistics(g, x, statistics, scratch);
    groupnorm_affine(g, statistics, gamma, beta, slope, shift);
    apply(g, x, slope, shift, y, row);
}

INLINE void sums_chunk(size_t pixels, size_t n, const real *restrict x, const real *restrict d,
                       const real *restrict slope, const real *restrict shift, const real *restrict center,
                       const size_t lanes, real *restrict sum, real *restrict product)
{
    real sums[CHUNK_MAX] = {0}, products[CHUNK_MAX] = {0};
    for (size_t p = 0; p < pixels; p++, x += n, d += n)
        for (size_t k = 0; k < lanes; k++) {
            real arrives = d[k], through = slope[k] * x[k] + shift[k] > 0 ? arrives : 0;
            sums[k] += through;
            products[k] += through * (x[k] - center[k]);
        }
    memcpy(sum, sums, lanes * sizeof(real));
    memcpy(product, products, lanes * sizeof(real));
}

/* Per channel, through the ReLU: d_beta = sum d, d_gamma_raw = sum d (x - mean). */
STATIC_KERNEL(void, channel_sums,
              (size_t pixels, size_t n, const real *restrict x, const real *restrict d, const real *restrict slope,
               const real *restrict shift, const real *restrict center, real *restrict sum, real *restrict product),
              (pixels, n, x, d, slope, shift, center, sum, product)){
#define DO(lanes) sums_chunk(pixels, n, x + c, d + c, slope + c, shift + c, center + c, lanes, sum + c, product + c)
    EACH_CHUNK(n)
#undef DO
}

INLINE void gradient_chunk(const struct groupnorm *g, const real *restrict x, const real *restrict d,
                           const real *restrict slope, const real *restrict shift, const real *restrict linear,
                           const real *restrict constant, const size_t lanes, real *restrict d_x, size_t row)
{
    size_t n = g->channels;
    for (uint32_t i = 0; i < g->height; i++, d_x += row - g->width * n)
        for (uint32_t j = 0; j < g->width; j++, x += n, d += n, d_x += n)
            for (size_t k = 0; k < lanes; k++) {
                real arrives = d[k], through = slope[k] * x[k] + shift[k] > 0 ? arrives : 0;
                d_x[k] = slope[k] * through + (linear[k] * x[k] + constant[k]);
            }
}

/* d_x = slope * through + linear * x + constant */
STATIC_KERNEL(void, input_gradient,
              (const struct groupnorm *g, const real *restrict x, const real *restrict d, const real *restrict slope,
               const real *restrict shift, const real *restrict linear, const real *restrict constant,
               real *restrict d_x, size_t row),
              (g, x, d, slope, shift, linear, constant, d_x, row))
{
#define DO(lanes) gradient_chunk(g, x + c, d + c, slope + c, shift + c, linear + c, constant + c, lanes, d_x + c, row)
    EACH_CHUNK(g->channels)
#undef DO
}

/* With s = sum gamma d / m and q = sum gamma d xhat / m over the group: d_x = (gamma d - s - xhat q) / deviation. */
void groupnorm_terms(const struct groupnorm *g, const real *gamma, const real *statistics, const real *sum,
                     const real *product, real *linear, real *constant, real *d_gamma, real *d_beta)
{
    uint32_t size = g->channels / g->groups;
    for (uint32_t i = 0; i < g->groups; i++) {
        real mean = statistics[i], inverse = statistics[g->groups + i], s = 0, q = 0;
        for (uint32_t c = i * size; c < (i + 1) * size; c++) {
            real hat = product[c] * inverse;
            d_beta[c] += sum[c];
            d_gamma[c] += hat;
            s += gamma[c] * sum[c];
            q += gamma[c] * hat;
        }
        real slope = -inverse * inverse * q * inverse_count(g);
        real offset = -inverse * s * inverse_count(g) - slope * mean;
        for (uint32_t c = i * size; c < (i + 1) * size; c++) {
            linear[c] = slope;
            constant[c] = offset;
        }
    }
}

void groupnorm_relu_backward(const struct groupnorm *g, const real *x, const real *gamma, const real *beta,
                             const real *statistics, const real *d_y, real *d_x, size_t row, real *d_gamma,
                             real *d_beta, real *scratch)
{
    size_t pixels = (size_t)g->height * g->width, n = g->channels;
    real *slope = scratch, *shift = scratch + n, *center = scratch + 2 * n, *constant = scratch + 3 * n;
    real *sum = scratch + 4 * n, *product = scratch + 5 * n, *linear = center;
    groupnorm_affine(g, statistics, gamma, beta, slope, shift);
    groupnorm_center(g, statistics, center);
    channel_sums(pixels, n, x, d_y, slope, shift, center, sum, product);
    groupnorm_terms(g, gamma, statistics, sum, product, linear, constant, d_gamma, d_beta);
    input_gradient(g, x, d_y, slope, shift, linear, constant, d_x, row);
}
