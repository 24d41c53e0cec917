#include "tests/sim/arithmetic.h"

#include <xxhash.h>
#include "common/vecmath.h"
#include "proto/covariance.h"
#include "proto/stats.h"

enum { ROWS_MAX = 8, D_MAX = 8, NOVEL = 2, METRICS = 8 };

/* ---- numbers from a hash (splitmix64) ---- */

static uint64_t next(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* In [-1, 1). */
static float next_float(uint64_t *state)
{
    return (float)(int64_t)(next(state) >> 40) / 8388608.0f - 1;
}

static void fill(float *out, size_t n, uint64_t state)
{
    for (size_t i = 0; i < n; i++)
        out[i] = next_float(&state);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t state = a ^ (b + UINT64_C(0x9e3779b97f4a7c15));
    return next(&state);
}

static uint64_t mix_buf(uint64_t h, const struct buf *b)
{
    return b ? XXH3_64bits_withSeed(b->data, b->size, h) : mix(h, 0);
}

static uint64_t mix_view(uint64_t h, const struct mixture_view *v)
{
    if (v == NULL)
        return mix(h, 0);
    size_t K = v->K, D = v->D, V = covariance_width(v->covariance, D);
    h = XXH3_64bits_withSeed(&v->beta, sizeof v->beta, mix(h, v->version));
    h = XXH3_64bits_withSeed(v->mean, K * D * sizeof(float), h);
    h = XXH3_64bits_withSeed(v->variance, (K * V + covariance_shared_width(v->covariance, D)) * sizeof(float), h);
    h = XXH3_64bits_withSeed(v->weight, K * sizeof(float), h);
    h = XXH3_64bits_withSeed(v->price, K * sizeof(float), h);
    return XXH3_64bits_withSeed(v->log_const, K * sizeof(float), h);
}

static uint64_t slot_hash(const struct scenario *s, const struct slot_job *job)
{
    return mix(mix((uint64_t)s->config.run.seed, job->step), job->slot);
}

/* ---- the parts ---- */

void arithmetic_initial(void *context, float *params, float *buffers)
{
    const struct scenario *s = context;
    fill(params, s->manifest.parameter_floats, mix((uint64_t)s->config.run.seed, 1));
    fill(buffers, s->manifest.buffer_floats, mix((uint64_t)s->config.run.seed, 2));
}

/* Unit rows, two responsibilities each, the first rows as candidates for re-seeding. */
static int statistics(const struct scenario *s, const struct slot_job *job, uint64_t state, struct msg *out)
{
    float h[ROWS_MAX * D_MAX], gamma[2 * ROWS_MAX], distance[NOVEL] = {0.9f, 0.5f};
    uint32_t start[ROWS_MAX + 1] = {0}, index[2 * ROWS_MAX], assigned[ROWS_MAX];
    uint32_t N = run_config_slot_rows(&s->config), K = (uint32_t)s->config.mixture.components;
    uint32_t D = (uint32_t)s->config.mixture.dimensions;
    ASSERT(N <= ROWS_MAX && D <= D_MAX);
    fill(h, (size_t)N * D, state);
    vec_normalise_rows(h, N, D, NULL);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t first = (uint32_t)(next(&state) % (K / 2)), second = K / 2 + (uint32_t)(next(&state) % (K / 2));
        gamma[2 * i] = 0.5f + 0.49f * next_float(&state);
        gamma[2 * i + 1] = 1 - gamma[2 * i];
        index[2 * i] = first;
        index[2 * i + 1] = second;
        assigned[i] = gamma[2 * i] > 0.5f ? first : second;
        start[i + 1] = 2 * i + 2;
    }
    struct responsibilities g = {.N = N, .start = start, .index = index, .gamma = gamma};
    struct stats_extra extra = {
        .V = NOVEL, .novel = h, .novel_distance = distance, .assigned = assigned, .loglik = next_float(&state)};
    extra.S = (uint32_t)run_config_init_rows(&s->config, job->step, job->slot, 1);
    return stats_encode(h, &g, K, D, s->config.mixture.covariance, &extra, out);
}

int arithmetic_part_a(const struct scenario *s, struct slot_job *job, uint64_t *carry)
{
    *carry = mix_buf(mix_buf(slot_hash(s, job), job->teacher), job->buffers);
    if (job->mixture_a == NULL)
        return 0;
    ASSERT(job->mixture_a->version == job->step);
    return statistics(s, job, mix_view(*carry, job->mixture_a), job->stats);
}

int arithmetic_part_b(const struct scenario *s, struct slot_job *job, uint64_t carry)
{
    const struct manifest *m = &s->manifest;
    ASSERT(s->joint || job->mixture_b->version == job->step + 1 - (uint64_t)s->config.mixture.prototype_lag);
    uint64_t state = mix_view(mix_buf(mix_buf(carry, job->student), job->buffers), job->mixture_b);
    job->gradient = buf_new(m->parameter_floats * sizeof(float));
    job->new_buffers = buf_new(m->buffer_floats * sizeof(float));
    job->metrics = buf_new(METRICS * sizeof(double));
    if (job->gradient == NULL || job->new_buffers == NULL || job->metrics == NULL)
        return ERR_MEMORY;
    job->metric_count = METRICS;
    fill((float *)(void *)job->gradient->data, m->parameter_floats, state);
    fill((float *)(void *)job->new_buffers->data, m->buffer_floats, mix(state, 1));
    for (int i = 0; i < METRICS; i++)
        ((double *)(void *)job->metrics->data)[i] = 1 + i;
    return 0;
}
