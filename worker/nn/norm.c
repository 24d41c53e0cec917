/* Kernels over one sample, and where their coefficients come from; see norm.h. */
#include "worker/nn/norm.h"

#include <math.h>
#include <string.h>
#include "common/kernels.h"
#include "worker/nn/chunks.h"
#include "worker/nn/columns.h"
#include "worker/nn/vector.h"

#define EPSILON REAL(1e-5) /* as groupnorm.c's and batchnorm.c's */

static size_t pixels_of(const struct norm *n)
{
    return (size_t)n->sample.height * n->sample.width;
}

void norm_carve(const struct norm *n, size_t places, struct norm_store *w, struct arena *a)
{
    size_t C = n->sample.channels;
    w->statistics = arena_reals(a, n->batch ? 2 * C : places * 2 * n->sample.groups);
    w->variance = arena_reals(a, n->batch ? C : 0);
    w->sums = arena_reals(a, n->batch ? places * 2 * C : 2 * C);
    real **const channels[] = {&w->slope, &w->shift, &w->linear, &w->constant, &w->center};
    for (size_t i = 0; i < sizeof channels / sizeof channels[0]; i++)
        *channels[i] = arena_reals(a, C);
}

static real *statistics_of(const struct norm *n, const struct norm_store *w, size_t place)
{
    return n->batch ? w->statistics : w->statistics + place * 2 * n->sample.groups;
}

static real *sums_of(const struct norm *n, const struct norm_store *w, size_t place)
{
    return n->batch ? w->sums + place * 2 * n->sample.channels : w->sums;
}

/* ---- forward ---- */

/* batch: the sample's channel means, and squares around them: so one reading of the sample does. */
void norm_measure(const struct norm *n, const struct norm_store *w, size_t place, const real *x)
{
    size_t C = n->sample.channels, pixels = pixels_of(n);
    real *mean = sums_of(n, w, place);
    if (!n->batch) {
        groupnorm_statistics(&n->sample, x, statistics_of(n, w, place), w->sums);
        return;
    }
    columns_sum(x, pixels, C, mean);
    for (size_t c = 0; c < C; c++)
        mean[c] /= (real)pixels;
    columns_sum_squares(x, pixels, C, mean, mean + C);
}

/* Mean and variance of a channel from those of the samples (Chan, Golub & LeVeque, 1979). */
static void combine(const struct norm *n, const struct norm_store *w, size_t samples, size_t c)
{
    size_t C = n->sample.channels;
    double mean = 0, squares = 0, between = 0;
    for (size_t s = 0; s < samples; s++) {
        mean += (double)w->sums[s * 2 * C + c];
        squares += (double)w->sums[s * 2 * C + C + c];
    }
    mean /= (double)samples;
    for (size_t s = 0; s < samples; s++) {
        double distance = (double)w->sums[s * 2 * C + c] - mean;
        between += distance * distance;
    }
    w->statistics[c] = (real)mean;
    w->variance[c] = (real)((squares / (double)pixels_of(n) + between) / (double)samples);
}

static void batch_affine(const struct norm *n, const struct norm_store *w, const real *params, const real *variance)
{
    size_t C = n->sample.channels;
    const real *gamma = params + n->gamma.offset, *beta = params + n->beta.offset, *mean = w->statistics;
    real *inverse = w->statistics + C;
    for (size_t c = 0; c < C; c++) {
        inverse[c] = 1 / (real)sqrt(variance[c] + EPSILON);
        w->slope[c] = gamma[c] * inverse[c];
        w->shift[c] = beta[c] - mean[c] * w->slope[c];
    }
}

void norm_settle(const struct norm *n, const struct norm_store *w, const real *params, size_t samples)
{
    if (!n->batch)
        return;
    for (size_t c = 0; c < n->sample.channels; c++)
        combine(n, w, samples, c);
    batch_affine(n, w, params, w->variance);
}

void norm_settle_running(const struct norm *n, const struct norm_store *w, const real *params, const real *buffers)
{
    if (!n->batch)
        return;
    memcpy(w->statistics, buffers + n->mean, n->sample.channels * sizeof(real));
    batch_affine(n, w, params, buffers + n->variance);
}

INLINE void apply_chunk(const struct groupnorm *g, const real *restrict x, const real *restrict slope,
                        const real *restrict shift, const real *restrict residual, size_t residual_row, const bool add,
                        const bool relu, const size_t lanes, real *restrict y, size_t row)
{
    size_t n = g->channels;
    for (uint32_t i = 0; i < g->height; i++) {
        for (uint32_t j = 0; j < g->width; j++)
            for (size_t k = 0; k < lanes; k++) {
                real u = slope[k] * x[j * n + k] + shift[k];
                u = add ? u + residual[j * n + k] : u;
                y[j * n + k] = !relu || u > 0 ? u : 0;
            }
        x += g->width * n;
        y += row;
        residual = add ? residual + residual_row : residual;
    }
}

STATIC_KERNEL(void, apply_plain,
              (const struct groupnorm *g, const real *restrict x, const real *restrict slope,
               const real *restrict shift, real *restrict y, size_t row),
              (g, x, slope, shift, y, row)){
#define DO(lanes) apply_chunk(g, x + c, slope + c, shift + c, NULL, 0, false, false, lanes, y + c, row)
    EACH_CHUNK(g->channels)
#undef DO
}

STATIC_KERNEL(void, apply_relu,
              (const struct groupnorm *g, const real *restrict x, const real *restrict slope,
               const real *restrict shift, real *restrict y, size_t row),
              (g, x, slope, shift, y, row)){
#define DO(lanes) apply_chunk(g, x + c, slope + c, shift + c, NULL, 0, false, true, lanes, y + c, row)
    EACH_CHUNK(g->channels)
#undef DO
}

STATIC_KERNEL(void, apply_residual_relu,
              (const struct groupnorm *g, const real *restrict x, const real *restrict slope,
               const real *restrict shift, const real *restrict residual, size_t residual_row, real *restrict y,
               size_t row),
              (g, x, slope, shift, residual, residual_row, y, row))
{
#define DO(lanes) apply_chunk(g, x + c, slope + c, shift + c, residual + c, residual_row, true, true, lanes, y + c, row)
    EACH_CHUNK(g->channels)
#undef DO
}

static void group_affine(const struct norm *n, const struct norm_store *w, const real *params, size_t place)
{
    if (!n->batch)
        groupnorm_affine(&n->sample, statistics_of(n, w, place), params + n->gamma.offset, params + n->beta.offset,
                         w->slope, w->shift);
}

void norm_apply(const struct norm *n, const struct norm_store *w, const real *params, size_t place, const real *x,
                struct norm_rows residual, bool relu, struct norm_rows y)
{
    group_affine(n, w, params, place);
    if (residual.at)
        apply_residual_relu(&n->sample, x, w->slope, w->shift, residual.at, residual.row, y.at, y.row);
    else if (relu)
        apply_relu(&n->sample, x, w->slope, w->shift, y.at, y.row);
    else
        apply_plain(&n->sample, x, w->slope, w->shift, y.at, y.row);
}

/* ---- backward ---- */

INLINE void sums_chunk(const struct groupnorm *g, const real *restrict x, const real *restrict y, size_t row,
                       real *restrict d, const real *restrict center, const bool mask, const size_t lanes,
                       real *restrict sum, real *restrict product)
{
    real sums[CHUNK_MAX] = {0}, products[CHUNK_MAX] = {0};
    size_t n = g->channels;
    for (uint32_t i = 0; i < g->height; i++) {
        for (uint32_t j = 0; j < g->width; j++)
            for (size_t k = 0; k < lanes; k++) {
                real arrives = d[j * n + k], through = !mask || y[j * n + k] > 0 ? arrives : 0;
                if (mask)
                    d[j * n + k] = through;
                sums[k] += through;
                products[k] += through * (x[j * n + k] - center[k]);
            }
        x += g->width * n;
        d += g->width * n;
        y = mask ? y + row : y;
    }
    memcpy(sum, sums, lanes * sizeof(real));
    memcpy(product, products, lanes * sizeof(real));
}

STATIC_KERNEL(void, sums_masked,
              (const struct groupnorm *g, const real *restrict x, const real *restrict y, size_t row, real *restrict d,
               const real *restrict center, real *restrict sum, real *restrict product),
              (g, x, y, row, d, center, sum, product)){
#define DO(lanes) sums_chunk(g, x + c, y + c, row, d + c, center + c, true, lanes, sum + c, product + c)
    EACH_CHUNK(g->channels)
#undef DO
}

STATIC_KERNEL(void, sums_plain,
              (const struct groupnorm *g, const real *restrict x, real *restrict d, const real *restrict center,
               real *restrict sum, real *restrict product),
              (g, x, d, center, sum, product))
{
#define DO(lanes) sums_chunk(g, x + c, NULL, 0, d + c, center + c, false, lanes, sum + c, product + c)
    EACH_CHUNK(g->channels)
#undef DO
}

void norm_sums(const struct norm *n, const struct norm_store *w, size_t place, const real *x, struct norm_rows y,
               real *d)
{
    size_t C = n->sample.channels;
    real *sum = sums_of(n, w, place), *product = sum + C;
    const real *center = w->statistics;
    if (!n->batch) {
        groupnorm_center(&n->sample, statistics_of(n, w, place), w->center);
        center = w->center;
    }
    if (y.at)
        sums_masked(&n->sample, x, y.at, y.row, d, center, sum, product);
    else
        sums_plain(&n->sample, x, d, center, sum, product);
}

/* With m values of a channel: d_x = slope (d - sum d / m - xhat sum (d xhat) / m). */
void norm_settle_gradient(const struct norm *n, const struct norm_store *w, const real *params, size_t samples,
                          real *grad)
{
    size_t C = n->sample.channels;
    const real *mean = w->statistics, *inverse = mean + C;
    double m = (double)samples * (double)pixels_of(n);
    if (!n->batch)
        return;
    for (size_t c = 0; c < C; c++) {
        double sum = 0, product = 0;
        for (size_t s = 0; s < samples; s++) {
            sum += (double)w->sums[s * 2 * C + c];
            product += (double)w->sums[s * 2 * C + C + c];
        }
        real d_gamma = (real)product * inverse[c];
        grad[n->beta.offset + c] += (real)sum;
        grad[n->gamma.offset + c] += d_gamma;
        w->slope[c] = params[n->gamma.offset + c] * inverse[c];
        w->linear[c] = -w->slope[c] * inverse[c] * d_gamma / (real)m;
        w->constant[c] = -w->slope[c] * (real)(sum / m) - w->linear[c] * mean[c];
    }
}

INLINE void gradient_chunk(const struct groupnorm *g, const real *restrict x, const real *restrict d,
                           const real *restrict slope, const real *restrict linear, const real *restrict constant,
                           const size_t lanes, real *restrict d_x, size_t row)
{
    size_t n = g->channels;
    for (uint32_t i = 0; i < g->height; i++, x += g->width * n, d += g->width * n, d_x += row)
        for (uint32_t j = 0; j < g->width; j++)
            for (size_t k = 0; k < lanes; k++)
                d_x[j * n + k] = slope[k] * d[j * n + k] + (linear[k] * x[j * n + k] + constant[k]);
}

STATIC_KERNEL(void, input_gradient,
              (const struct groupnorm *g, const real *restrict x, const real *restrict d, const real *restrict slope,
               const real *restrict linear, const real *restrict constant, real *restrict d_x, size_t row),
              (g, x, d, slope, linear, constant, d_x, row))
{
#define DO(lanes) gradient_chunk(g, x + c, d + c, slope + c, linear + c, constant + c, lanes, d_x + c, row)
    EACH_CHUNK(g->channels)
#undef DO
}

void norm_input_gradient(const struct norm *n, const struct norm_store *w, const real *params, size_t place,
                         const real *x, const real *d, struct norm_rows d_x, real *grad)
{
    const real *sum = w->sums, *product = sum + n->sample.channels;
    group_affine(n, w, params, place);
    if (!n->batch)
        groupnorm_terms(&n->sample, params + n->gamma.offset, statistics_of(n, w, place), sum, product, w->linear,
                        w->constant, grad + n->gamma.offset, grad + n->beta.offset);
    input_gradient(&n->sample, x, d, w->slope, w->linear, w->constant, d_x.at, d_x.row);
}

void norm_contribution(const struct norm *n, const struct norm_store *w, size_t samples, real *buffers)
{
    size_t C = n->sample.channels, m = samples * pixels_of(n);
    real unbiased = (real)m / (real)(m - 1);
    if (!n->batch)
        return;
    memcpy(buffers + n->mean, w->statistics, C * sizeof(real));
    for (size_t c = 0; c < C; c++)
        buffers[n->variance + c] = w->variance[c] * unbiased;
}
