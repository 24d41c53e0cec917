/* Encoder + projection head as one object: architecture fixed at creation, parameters and buffers passed in as flat
 * vectors laid out by the manifest, activations in a workspace. One workspace serves one thread.
 *
 *   model_new(&spec, &model, &e);
 *   model_init(model, seed, params, buffers);
 *   model_workspace_new(model, 2 * b, &ws);
 *   model_forward(model, MODEL_TRAIN, params, buffers, images, rows, ws, features, z);
 *   model_backward(model, params, dz, NULL, ws, grad);
 *
 * Images are (R,H,W,C) reals, already standardised. A slot's rows are both views of its images: rows 0..b-1 are view 1.
 */
#ifndef DECANT_WORKER_NN_MODEL_H
#define DECANT_WORKER_NN_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include "common/error.h"
#include "proto/choices.h"
#include "proto/manifest.h"
#include "worker/nn/real.h"

enum { CONV_STAGES_MAX = 8 };

struct model_spec {
    enum encoder_model family;
    uint32_t height, width, channels;         /* of images */
    uint32_t stages, widths[CONV_STAGES_MAX]; /* conv */
    uint32_t groups;                          /* conv, resnet */
    enum resnet_layers layers;                /* resnet */
    uint32_t base;                            /* resnet: channels of the first stage */
    enum encoder_norm norm;                   /* resnet */
    enum encoder_precision precision;         /* of products in the encoder, but for the layer that reads pixels */
    uint32_t patch, dim, depth, heads, mlp;
    enum vit_pool pool;          /* vit; mlp = hidden / dim */
    uint32_t hidden, projection; /* head: features-hidden-hidden-projection, BatchNorm + GELU after the first two */
};

enum model_mode {
    MODEL_TRAIN /* batch statistics, activations kept for backward */,
    MODEL_TEACHER /* batch statistics, nothing kept */,
    MODEL_EVAL /* running statistics from buffers, nothing kept */
};

struct model;
struct model_workspace;

int model_new(const struct model_spec *spec, struct model **out, struct error *e); /* ERR_CONFIG names the key */
void model_free(struct model **m);
const struct manifest *model_manifest(const struct model *m); /* parameters and BatchNorm buffers; owned by m */
uint32_t model_feature_width(const struct model *m);
/* Pure function of the spec and seed (RNG_INIT streams named by tensor index). */
void model_init(const struct model *m, uint64_t seed, real *params, real *buffers);

int model_workspace_new(const struct model *m, uint32_t rows_max, struct model_workspace **out);
void model_workspace_free(struct model_workspace **ws);

/* features (R,F) may be NULL; z (R,projection) may be NULL in MODEL_EVAL (head skipped). R <= rows_max, R >= 2. */
void model_forward(const struct model *m, enum model_mode mode, const real *params, const real *buffers,
                   const real *images, uint32_t R, struct model_workspace *ws, real *features, real *z);
/* Gradient of the last MODEL_TRAIN forward: grad (parameter_floats) is overwritten. dz (R,projection).
 * d_features (R,F), when not NULL, is what a loss asks of the features directly. */
void model_backward(const struct model *m, const real *params, const real *dz, const real *d_features,
                    struct model_workspace *ws, real *grad);
/* What the last forward contributes to the running statistics: (buffer_floats), batch mean and unbiased variance of
 * each BatchNorm. That forward was MODEL_TRAIN or MODEL_TEACHER. */
void model_buffer_contribution(const struct model *m, const struct model_workspace *ws, real *out);

#endif
