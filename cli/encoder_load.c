/* Loading by name against the model's own manifest, and extraction in blocks on several threads. */
#include "cli/encoder_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/parallel.h"
#include "common/vecmath.h"
#include "worker/data/augment.h"
#include "worker/model_spec.h"

enum {
    BLOCK_ROWS = 64, /* images of one forward pass: activations stay in the second-level cache */
    MEASURED_BLOCKS = 64
};

static int encoder_build(const struct run_config *config, const struct dataset *images, struct encoder *out,
                         struct error *e)
{
    struct model_spec spec;
    memset(out, 0, sizeof *out);
    int rc = pixel_scale_of(config, images->channels, &out->scale, e);
    if (rc == 0)
        rc = model_spec_of(config, images, &spec, e);
    if (rc == 0)
        rc = model_new(&spec, &out->model, e);
    if (rc != 0)
        return rc;
    const struct manifest *m = model_manifest(out->model);
    out->params = calloc(m->parameter_floats + 1, sizeof(float)); /* + 1: never an empty allocation */
    out->buffers = calloc(m->buffer_floats + 1, sizeof(float));
    out->features = model_feature_width(out->model);
    out->projection = spec.projection;
    return out->params && out->buffers ? 0 : error_set(e, ERR_MEMORY, "out of memory for the encoder");
}

static int load_entries(const struct safetensors *file, const char *prefix, const struct manifest_entry *entries,
                        size_t n, float *to, struct error *e)
{
    for (size_t i = 0; i < n; i++) {
        char name[TENSOR_NAME_MAX + 16];
        snprintf(name, sizeof name, "%s.%s", prefix, entries[i].name);
        const struct tensor_view *t = safetensors_find(file, name, DTYPE_F32, entries[i].rank, entries[i].shape, e);
        if (!t)
            return ERR_FORMAT;
        memcpy(to + entries[i].offset, t->data, t->size);
        if (!vec_all_finite(to + entries[i].offset, entries[i].count))
            return error_set(e, ERR_FORMAT, "tensor '%s' holds a value that is not finite", name);
    }
    return 0;
}

int encoder_load(const struct checkpoint *c, const struct dataset *images, struct encoder *out, struct error *e)
{
    int rc = encoder_build(&c->config, images, out, e);
    if (rc == 0) {
        const struct manifest *m = model_manifest(out->model);
        rc = load_entries(&c->encoder, "teacher", m->parameters, m->parameter_count, out->params, e);
        if (rc == 0)
            rc = load_entries(&c->encoder, "buffer", m->buffers, m->buffer_count, out->buffers, e);
    }
    if (rc != 0)
        encoder_fini(out);
    return rc;
}

int encoder_random(const struct run_config *config, const struct dataset *images, uint64_t seed, struct encoder *out,
                   struct error *e)
{
    int rc = encoder_build(config, images, out, e);
    if (rc == 0)
        model_init(out->model, seed, out->params, out->buffers);
    else
        encoder_fini(out);
    return rc;
}

void encoder_fini(struct encoder *enc)
{
    model_free(&enc->model);
    free(enc->params);
    free(enc->buffers);
    *enc = (struct encoder){0};
}

/* ---- extraction ---- */

struct extract_thread {
    struct model_workspace *workspace;
    float *images, *features, *z; /* of BLOCK_ROWS rows; z NULL when not wanted */
    uint8_t *scratch;             /* an image */
    struct error error;           /* why an image could not be read */
};

struct extract_job {
    const struct encoder *encoder;
    const struct dataset *images;
    const uint32_t *picked;
    uint32_t rows;
    float *features, *z; /* outputs; z may be NULL */
    uint32_t blocks, block_rows;
    float *contributions; /* (blocks, buffer_floats), the output of a job that measures */
    struct extract_thread threads[PARALLEL_THREADS_MAX];
};

/* Image number `row`, standardised, as row i of the thread's images. False when it cannot be read, or an earlier
 * one. */
static bool take_image(const struct extract_job *job, struct extract_thread *t, uint32_t row, size_t i)
{
    size_t pixels = dataset_image_bytes(job->images);
    const uint8_t *image;
    if (t->error.code != 0 || dataset_image(job->images, row, t->scratch, &image, &t->error) != 0)
        return false;
    augment_standardise(&job->encoder->scale, job->images->channels, image, pixels, t->images + i * pixels);
    return true;
}

/* A forward pass needs two rows at least: a lone last image goes in twice. */
static void extract_block(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct extract_job *job = arg;
    const struct encoder *enc = job->encoder;
    struct extract_thread *t = &job->threads[thread];
    size_t rows = end - begin, forward_rows = rows < 2 ? 2 : rows;
    for (size_t i = 0; i < forward_rows; i++)
        if (!take_image(job, t, job->picked[begin + (i < rows ? i : 0)], i))
            return;
    model_forward(enc->model, MODEL_EVAL, enc->params, enc->buffers, t->images, (uint32_t)forward_rows, t->workspace,
                  t->features, t->z);
    memcpy(job->features + begin * enc->features, t->features, rows * enc->features * sizeof(float));
    if (job->z)
        memcpy(job->z + begin * enc->projection, t->z, rows * enc->projection * sizeof(float));
    if (thread == 0) /* the caller's */
        evaluation_meter_at(enc->meter, (double)end / job->rows);
}

static int extract_thread_init(struct extract_thread *t, const struct extract_job *job)
{
    const struct encoder *enc = job->encoder;
    t->images = malloc(BLOCK_ROWS * dataset_image_bytes(job->images) * sizeof(float));
    t->scratch = malloc(dataset_image_bytes(job->images));
    t->features = malloc(sizeof(float) * BLOCK_ROWS * enc->features);
    if (job->z || job->contributions)
        t->z = malloc(sizeof(float) * BLOCK_ROWS * enc->projection);
    if (!t->images || !t->scratch || !t->features || ((job->z || job->contributions) && !t->z))
        return ERR_MEMORY;
    return model_workspace_new(enc->model, BLOCK_ROWS, &t->workspace);
}

static void extract_thread_fini(struct extract_thread *t)
{
    model_workspace_free(&t->workspace);
    free(t->images);
    free(t->scratch);
    free(t->features);
    free(t->z);
}

/* Calls body for items [0, n) in blocks, on threads with a workspace each. */
static int run_job(struct extract_job *job, uint32_t n, size_t block, unsigned threads, parallel_body *body,
                   struct error *e)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < threads; i++)
        rc = extract_thread_init(&job->threads[i], job);
    if (rc == 0)
        parallel_for(n, block, threads, body, job);
    else
        error_set(e, rc, "out of memory for the features of %u images", job->rows);
    for (unsigned i = 0; i < threads; i++) {
        if (rc == 0 && job->threads[i].error.code != 0) {
            *e = job->threads[i].error;
            rc = e->code;
        }
        extract_thread_fini(&job->threads[i]);
    }
    return rc;
}

int encoder_features(const struct encoder *enc, const struct dataset *images, const uint32_t *picked, uint32_t rows,
                     unsigned threads, struct feature_set *out, float **z, struct error *e)
{
    ASSERT(threads <= PARALLEL_THREADS_MAX);
    int rc = feature_set_new(images, picked, rows, enc->features, out);
    if (rc != 0)
        return error_set(e, rc, "out of memory for the features of %u images", rows);
    struct extract_job job = {.encoder = enc, .images = images, .picked = picked, .rows = rows, .features = out->x};
    if (z) {
        job.z = *z = malloc((size_t)rows * enc->projection * sizeof(float));
        rc = job.z ? 0 : error_set(e, ERR_MEMORY, "out of memory for the projections of %u images", rows);
    }
    if (rc == 0)
        rc = run_job(&job, rows, BLOCK_ROWS, threads, extract_block, e);
    if (rc != 0) {
        feature_set_fini(out);
        free(job.z);
        if (z)
            *z = NULL;
    }
    return rc;
}

/* ---- statistics ---- */

static void measure_block(void *arg, size_t block, size_t end, unsigned thread)
{
    struct extract_job *job = arg;
    const struct encoder *enc = job->encoder;
    struct extract_thread *t = &job->threads[thread];
    ASSERT(end == block + 1);
    for (uint32_t i = 0; i < job->block_rows; i++)
        if (!take_image(job, t, job->picked[(size_t)i * job->blocks + block], i))
            return;
    model_forward(enc->model, MODEL_TEACHER, enc->params, enc->buffers, t->images, job->block_rows, t->workspace, NULL,
                  t->z);
    model_buffer_contribution(enc->model, t->workspace,
                              job->contributions + block * model_manifest(enc->model)->buffer_floats);
    if (thread == 0) /* the caller's */
        evaluation_meter_at(enc->meter, (double)end / job->blocks);
}

/* In double and in the blocks' order, so that it does not depend on the number of threads. */
static void average(const float *contributions, uint32_t blocks, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t b = 0; b < blocks; b++)
            sum += contributions[b * n + i];
        out[i] = (float)(sum / blocks);
    }
}

int encoder_measure(struct encoder *enc, const struct dataset *images, const uint32_t *picked, uint32_t rows,
                    unsigned threads, struct error *e)
{
    ASSERT(threads <= PARALLEL_THREADS_MAX);
    size_t n = model_manifest(enc->model)->buffer_floats;
    struct extract_job job = {.encoder = enc, .images = images, .picked = picked, .rows = rows};
    if (rows < 2)
        return 0;
    job.block_rows = rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
    job.blocks = rows / job.block_rows < MEASURED_BLOCKS ? rows / job.block_rows : MEASURED_BLOCKS;
    job.contributions = malloc(job.blocks * n * sizeof(float));
    if (job.contributions == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for the statistics of %u images", rows);
    int rc = run_job(&job, job.blocks, 1, threads, measure_block, e);
    if (rc == 0)
        average(job.contributions, job.blocks, n, enc->buffers);
    free(job.contributions);
    return rc;
}
