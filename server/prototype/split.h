/* Merge and split, a second rule against components that do no work, from the statistics alone: two components nearer
 * than merge_distance (1 - cosine of their means) become one, whose statistics are exactly their sum, and the freed
 * one takes half of the component with the largest N_k max_d v_kd. Both halves keep its variances and are moved by
 * +-sqrt(v_d) along that dimension d. Masses and first moments of the mixture as a whole stay what they were.
 *
 * A version looks at SPLIT_LOOKED components, in turn, each against all others, and makes one merge at most: of the
 * nearest pair. When the halves of what is to be split would be nearer than merge_distance themselves there is
 * nothing to be gained, and nothing happens. */
#ifndef DECANT_SERVER_PROTOTYPE_SPLIT_H
#define DECANT_SERVER_PROTOTYPE_SPLIT_H

#include "server/prototype/mixture.h"

enum {
    SPLIT_LOOKED = 16
}; /* fairly arbitrary: 1024 components are gone through in 64 steps, for 16 K D products each */

/* The rule for the statistics of `version`, which are complete but for this. Fills m->split and counts; rows that
 * differ have their updated_step set. */
void split_nearest(struct mixture *m, uint32_t version);

#endif
