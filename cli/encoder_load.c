/* Loading by name against the model's own manifest, and extraction in blocks on several threads. */
#include "cli/encoder_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/parallel.h"
#include "common/vecmath.h"
#include "worker/data/augment.h"
#include "worker/model_spec.h"

enum { BLOCK_ROWS = 64 }; /* images of one forward pass: activations stay in the second-level cache */

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
    struct extract_thread threads[PARALLEL_THREADS_MAX];
};

/* A forward pass needs two rows at least: a lone last image goes in twice. */
static void extract_block(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct extract_job *job = arg;
    const struct encoder *enc = job->encoder;
    struct extract_thread *t = &job->threads[thread];
    size_t pixels = dataset_image_bytes(job->images), rows = end - begin, forward_rows = rows < 2 ? 2 : rows;
    const uint8_t *image;
    for (size_t i = 0; i < forward_rows; i++) {
        uint32_t row = job->picked[begin + (i < rows ? i : 0)];
        if (t->error.code != 0 || dataset_image(job->images, row, t->scratch, &image, &t->error) != 0)
            return;
        augment_standardise(&enc->scale, job->images->channels, image, pixels, t->images + i * pixels);
    }
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
    if (job->z)
        t->z = malloc(sizeof(float) * BLOCK_ROWS * enc->projection);
    if (!t->images || !t->scratch || !t->features || (job->z && !t->z))
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

static int extract(struct extract_job *job, uint32_t rows, unsigned threads, struct error *e)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < threads; i++)
        rc = extract_thread_init(&job->threads[i], job);
    if (rc == 0)
        parallel_for(rows, BLOCK_ROWS, threads, extract_block, job);
    else
        error_set(e, rc, "out of memory for the features of %u images", rows);
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
        rc = extract(&job, rows, threads, e);
    if (rc != 0) {
        feature_set_fini(out);
        free(job.z);
        if (z)
            *z = NULL;
    }
    return rc;
}
