/* Labelled feature vectors: what k-NN and the linear probe work on, whether they are pixels or an encoder's output. */
#ifndef DECANT_CLI_FEATURE_SET_H
#define DECANT_CLI_FEATURE_SET_H

#include <stdint.h>
#include "worker/data/dataset.h"
#include "worker/data/pixel_scale.h"

struct feature_set {
    uint32_t rows, width, classes;
    float *x;             /* (rows, width) */
    uint16_t *labels;     /* (rows), each < classes; NULL for unlabelled images, which no probe takes */
    const uint8_t *third; /* (classes), not owned: as accuracy_thirds; NULL where nobody asked for thirds */
};

/* Room for features of the images picked[0..rows), with their labels copied; x is not initialised. 0 or ERR_MEMORY. */
int feature_set_new(const struct dataset *d, const uint32_t *picked, uint32_t rows, uint32_t width,
                    struct feature_set *out);
void feature_set_fini(struct feature_set *s);

/* rows distinct image numbers out of `count`, a fixed choice (keyed permutation) that every evaluation shares. NULL
 * when out of memory. rows <= count. Free with free(). */
uint32_t *feature_set_pick(uint32_t count, uint32_t rows);

/* Standardised pixels of the picked images as features: the raw-pixel reference. ERR_MEMORY, or as dataset_image. */
int feature_set_pixels(const struct dataset *d, const uint32_t *picked, uint32_t rows, const struct pixel_scale *scale,
                       struct feature_set *out, struct error *e);

/* out (s->rows, width), fresh memory: s with the mean and deviation of `reference`'s columns taken out; a column that
 * is constant there stays near 0. 0 or ERR_MEMORY. */
int feature_set_standardise(const struct feature_set *reference, const struct feature_set *s, double **out);

#endif
