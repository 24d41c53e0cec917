/* The first reading of a set that is not kept: every image passes once, from whichever thread decoded it, and what is
 * left of it is what it says about contrast and about the fingerprint. */
#ifndef DECANT_WORKER_DATA_IMAGE_SURVEY_H
#define DECANT_WORKER_DATA_IMAGE_SURVEY_H

#include <stdbool.h>
#include "worker/data/contrast.h"
#include "worker/data/image.h"

enum { IMAGE_SURVEY_SHAPE = 6 };

struct image_survey;

/* shape: of the set as it should turn out, which a fingerprint begins with (dataset.h); NULL when that is not known
 * yet. */
int image_survey_new(const struct image_size *size, const uint32_t shape[IMAGE_SURVEY_SHAPE],
                     struct image_survey **out);
void image_survey_free(struct image_survey **s);
/* Image i, 0, 1, ... each once; taken over, freed. Thread-safe; waits for those before it when they are far behind. */
void image_survey_take(struct image_survey *s, uint32_t i, uint8_t *image);
void image_survey_miss(struct image_survey *s); /* an image that never comes. Thread-safe */

const struct contrast *image_survey_contrast(const struct image_survey *s);
/* The fingerprint's hash when all images came, the set has that shape, and these are its labels (labels_bytes 0: none);
 * else false. Once. */
bool image_survey_hash(struct image_survey *s, const uint32_t shape[IMAGE_SURVEY_SHAPE], const void *labels,
                       size_t labels_bytes, uint64_t *out);

#endif
