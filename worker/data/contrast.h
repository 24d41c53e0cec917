/* What training would not notice in a set, and neither would its user: images in which nothing is to be seen. Fed
 * image by image, in any order. */
#ifndef DECANT_WORKER_DATA_CONTRAST_H
#define DECANT_WORKER_DATA_CONTRAST_H

#include <stddef.h>
#include <stdint.h>

enum { CONTRAST_MIN = 16 }; /* values that a set should span: fewer come of a wrong scale, as 12 bits in 16 */

struct contrast {
    uint32_t flat, first; /* images of one colour throughout, and the first of them */
    uint8_t low, high;    /* of all values; exact only while they are closer than CONTRAST_MIN */
};

void contrast_init(struct contrast *c);
/* Image i, of `bytes` bytes, `channels` a pixel. */
void contrast_add(struct contrast *c, uint32_t i, const uint8_t *image, size_t bytes, uint32_t channels);
/* What `more` saw is added. */
void contrast_merge(struct contrast *c, const struct contrast *more);

#endif
