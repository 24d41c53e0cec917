/* What model.c asks of an encoder family: images in, features out. A family is a constant table of these functions; its
 * encoder object is immutable after describe, its workspace serves one thread. */
#ifndef DECANT_WORKER_NN_ENCODER_H
#define DECANT_WORKER_NN_ENCODER_H

#include "worker/nn/model.h"

struct encoder_ops {
    int (*create)(const struct model_spec *spec, void **out, struct error *e); /* ERR_CONFIG names the key */
    void (*destroy)(void *encoder);                                            /* NULL-safe */
    uint32_t (*width)(const void *encoder);                                    /* of the features */
    int (*describe)(void *encoder, struct manifest *m); /* appends and remembers its parameters */
    void (*initialise)(const void *encoder, uint64_t seed, real *params, real *buffers);
    int (*workspace_new)(const void *encoder, uint32_t rows_max, void **out);
    void (*workspace_free)(void *workspace); /* NULL-safe */
    /* images (R,H,W,C) -> features (R,width). MODEL_TRAIN: activations stay in the workspace for backward. */
    void (*forward)(const void *encoder, enum model_mode mode, const real *params, const real *buffers,
                    const real *images, size_t R, void *workspace, real *features);
    /* Gradient of the last MODEL_TRAIN forward; the encoder's part of grad is overwritten. */
    void (*backward)(const void *encoder, const real *params, const real *d_features, size_t R, void *workspace,
                     real *grad);
    /* The encoder's buffers: statistics of the R rows of the last forward but MODEL_EVAL. NULL: it has none. */
    void (*contribution)(const void *encoder, const void *workspace, size_t R, real *buffers);
};

extern const struct encoder_ops conv_encoder_ops, vit_encoder_ops, resnet_encoder_ops;

#endif
