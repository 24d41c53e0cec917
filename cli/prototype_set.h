/* The prototypes of a checkpoint, whoever owned them: a mixture's normalised means, or the teacher's copy of trainable
 * prototypes in a joint run. */
#ifndef DECANT_CLI_PROTOTYPE_SET_H
#define DECANT_CLI_PROTOTYPE_SET_H

#include "cli/checkpoint.h"

struct prototype_set {
    uint32_t K, D;
    uint64_t step;
    float *unit;          /* (K,D) rows of unit length */
    float *weight;        /* (K) pi_k; NULL in a joint run, like the next two */
    double *mass, *usage; /* (K) N_k; average share of the embeddings */
};

/* ERR_FORMAT when the checkpoint's tensors are absent or not of the configured shape. */
int prototype_set_load(const struct checkpoint *c, struct prototype_set *out, struct error *e);
void prototype_set_fini(struct prototype_set *s);

#endif
