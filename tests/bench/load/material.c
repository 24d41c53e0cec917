#include "tests/bench/load/material.h"

#include <stdlib.h>
#include <string.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/stats.h"
#include "worker/model_spec.h"

enum { SIDE = 28, BUFFERS = 1024, METRICS = 8, NOVEL = 8, STREAM_VECTORS = 1000, STREAM_STATS = 1001 };
static const float INITIAL = 0.05f, GRADIENT = 1e-3f; /* deviations, about those of a real run */

/* ---- sizes ---- */

static int one_matrix(struct manifest *m, uint64_t parameters)
{
    struct manifest_entry w = {
        .name = "w", .rank = 1, .shape = {parameters}, .decay = true, .clip = true, .lr_scale = 1};
    struct manifest_entry b = {.name = "b", .rank = 1, .shape = {BUFFERS}, .momentum = 0.1};
    manifest_init(m);
    int rc = manifest_add_parameter(m, &w);
    return rc == 0 ? manifest_add_buffer(m, &b) : rc;
}

static int encoder_manifest(const struct run_config *c, struct manifest *m, struct error *e)
{
    struct dataset images = {.height = SIDE, .width = SIDE, .channels = 1};
    struct model_spec spec;
    struct model *model = NULL;
    int rc = model_spec_of(c, &images, &spec, e);
    if (rc == 0)
        rc = model_new(&spec, &model, e);
    if (rc == 0)
        rc = manifest_copy(m, model_manifest(model));
    model_free(&model);
    return rc;
}

/* ---- values ---- */

static void fill(float *out, size_t n, float deviation, uint64_t stream)
{
    struct rng r;
    rng_open(&r, stream, RNG_INIT, STREAM_VECTORS, 0, 0);
    for (size_t i = 0; i < n; i++)
        out[i] = deviation * (float)rng_normal(&r);
}

static struct buf *floats(size_t n, float deviation, uint64_t stream)
{
    struct buf *b = buf_new(n * sizeof(float));
    if (b != NULL)
        fill((float *)(void *)b->data, n, deviation, stream);
    return b;
}

static struct buf *metrics(void)
{
    struct buf *b = buf_new(METRICS * sizeof(double));
    for (int i = 0; b != NULL && i < METRICS; i++)
        ((double *)(void *)b->data)[i] = 1;
    return b;
}

void material_initial(void *context, float *params, float *buffers)
{
    const struct material *m = context;
    fill(params, m->manifest.parameter_floats, INITIAL, 1);
    for (size_t i = 0; i < m->manifest.buffer_floats; i++)
        buffers[i] = 1;
}

/* ---- statistics ---- */

struct draft { /* of one slot */
    float *h, *gamma;
    uint32_t *start, *index, *assigned;
};

/* Embedding i: one component, or in two of five cases two, so 1.4 as in a run of the default configuration after its
 * first hundred steps (a mean of 1.41, with 8.7 candidates for re-seeding: 72.5 KB). */
static void draw_row(struct draft *d, uint32_t i, uint32_t K, struct rng *r)
{
    uint32_t at = d->start[i], n = i % 5 < 2 ? 2 : 1, first = rng_below(r, K / n);
    for (uint32_t j = 0; j < n; j++) {
        d->index[at + j] = first + j * (K / n);
        d->gamma[at + j] = 1.0f / (float)n;
    }
    d->assigned[i] = first;
    d->start[i + 1] = at + n;
}

static int draw_stats(const struct run_config *c, uint32_t which, struct msg *out)
{
    const uint32_t N = run_config_slot_rows(c), K = (uint32_t)c->mixture.components;
    const uint32_t D = (uint32_t)c->mixture.dimensions;
    size_t all = (size_t)N * 2;
    struct draft d = {malloc((size_t)N * D * sizeof *d.h), malloc(all * sizeof *d.gamma),
                      calloc(N + 1, sizeof *d.start), malloc(all * sizeof *d.index), malloc(N * sizeof *d.assigned)};
    float distance[NOVEL];
    struct rng r;
    int rc = ERR_MEMORY;
    msg_init(out, MSG_STATS, "");
    if (d.h && d.gamma && d.start && d.index && d.assigned) {
        rng_open(&r, which, RNG_INIT, STREAM_STATS, 0, 0);
        fill(d.h, (size_t)N * D, 1, 100 + which);
        vec_normalise_rows(d.h, N, D, NULL);
        for (uint32_t i = 0; i < N; i++)
            draw_row(&d, i, K, &r);
        for (int v = 0; v < NOVEL; v++)
            distance[v] = 0.3f - 0.01f * (float)v;
        struct responsibilities g = {.N = N, .start = d.start, .index = d.index, .gamma = d.gamma};
        struct stats_extra extra = {.V = NOVEL < N ? NOVEL : N,
                                    .novel = d.h,
                                    .novel_distance = distance,
                                    .assigned = d.assigned,
                                    .loglik = 100.0 * N};
        rc = stats_encode(d.h, &g, K, D, COVARIANCE_DIAGONAL, &extra, out);
    }
    free(d.h);
    free(d.gamma);
    free(d.start);
    free(d.index);
    free(d.assigned);
    return rc;
}

int material_new(const struct run_config *c, uint64_t parameters, struct material *out, struct error *e)
{
    memset(out, 0, sizeof *out);
    int rc = parameters > 0 ? one_matrix(&out->manifest, parameters) : encoder_manifest(c, &out->manifest, e);
    if (rc != 0)
        return rc;
    out->gradient = floats(out->manifest.parameter_floats, GRADIENT, 2);
    out->contribution = floats(out->manifest.buffer_floats, INITIAL, 3);
    out->metrics = metrics();
    for (uint32_t i = 0; rc == 0 && i < MATERIAL_STATS; i++)
        rc = draw_stats(c, i, &out->stats[i]);
    if (rc != 0 || !out->gradient || !out->contribution || !out->metrics)
        return error_set(e, ERR_MEMORY, "no memory for the contributions");
    return 0;
}

void material_fini(struct material *m)
{
    manifest_fini(&m->manifest);
    buf_unref(&m->gradient);
    buf_unref(&m->contribution);
    buf_unref(&m->metrics);
    for (int i = 0; i < MATERIAL_STATS; i++)
        msg_fini(&m->stats[i]);
}

size_t material_stats_bytes(const struct material *m)
{
    size_t bytes = 0;
    for (int i = 0; i < MATERIAL_STATS; i++)
        for (uint32_t t = 0; t < m->stats[i].tensor_count; t++)
            bytes += m->stats[i].tensors[t].data->size;
    return bytes / MATERIAL_STATS;
}

/* ---- jobs ---- */

void material_part_a(const struct material *m, struct slot_job *job)
{
    if (job->stats == NULL)
        return;
    const struct msg *from = &m->stats[(job->step + job->slot) % MATERIAL_STATS];
    job->stats->encoding = from->encoding;
    job->stats->scalar_count = from->scalar_count;
    memcpy(job->stats->scalars, from->scalars, sizeof from->scalars);
    job->stats->tensor_count = from->tensor_count;
    memcpy(job->stats->tensors, from->tensors, sizeof from->tensors);
    for (uint32_t i = 0; i < from->tensor_count; i++)
        buf_ref(from->tensors[i].data);
}

void material_part_b(const struct material *m, struct slot_job *job)
{
    job->gradient = buf_ref(m->gradient);
    job->new_buffers = buf_ref(m->contribution);
    job->metrics = metrics(); /* sums of a lease are made in place */
    job->metric_count = METRICS;
}
