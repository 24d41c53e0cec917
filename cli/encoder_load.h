/* A trained encoder rebuilt for inference from a checkpoint: the teacher's weights with the running statistics of its
 * normalisation layers. */
#ifndef DECANT_CLI_ENCODER_LOAD_H
#define DECANT_CLI_ENCODER_LOAD_H

#include "cli/checkpoint.h"
#include "cli/evaluation_meter.h"
#include "cli/feature_set.h"
#include "worker/data/pixel_scale.h"
#include "worker/nn/model.h"

struct encoder {
    struct model *model;
    float *params, *buffers;
    struct pixel_scale scale;
    uint32_t features, projection;
    struct evaluation_meter *meter; /* is told how far encoder_features is; NULL as loaded */
};

/* The teacher of c, for images of the size that `images` has. ERR_FORMAT when a tensor is absent or of another shape.
 */
int encoder_load(const struct checkpoint *c, const struct dataset *images, struct encoder *out, struct error *e);
/* The same architecture with fresh random weights: what the architecture alone is worth. */
int encoder_random(const struct run_config *config, const struct dataset *images, uint64_t seed, struct encoder *out,
                   struct error *e);
void encoder_fini(struct encoder *enc);

/* Puts in place of the running statistics, which are of the batches of training, those of the picked images as they
 * are: mean over blocks of 64 images, of 64 blocks at most, of what model_buffer_contribution says. Training measures
 * what its regime passes through the teacher, views here and images there, so a comparison of regimes measures both
 * anew. Of more than 4096 the first are taken: they should be in no order, as feature_set_pick gives them. Nothing is
 * done with fewer than two. ERR_MEMORY, or that of dataset_image. */
int encoder_measure(struct encoder *enc, const struct dataset *images, const uint32_t *picked, uint32_t rows,
                    unsigned threads, struct error *e);

/* Backbone features of the picked images into out, and, when z is not NULL, their projections (rows, projection) into
 * fresh memory that the caller frees. ERR_MEMORY, or that of dataset_image. */
int encoder_features(const struct encoder *enc, const struct dataset *images, const uint32_t *picked, uint32_t rows,
                     unsigned threads, struct feature_set *out, float **z, struct error *e);

#endif
