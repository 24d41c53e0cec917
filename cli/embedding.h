/* What a checkpoint makes of images: backbone features, projections, and the prototype that each is nearest to. */
#ifndef DECANT_CLI_EMBEDDING_H
#define DECANT_CLI_EMBEDDING_H

#include "cli/checkpoint.h"
#include "cli/evaluation_meter.h"
#include "cli/feature_set.h"
#include "cli/prototype_set.h"

struct embedding {
    struct feature_set features; /* as the backbone puts them out, not normalised */
    uint32_t D, K;
    float *z;          /* (rows, D) projections, of unit length: what prototypes are compared with */
    uint32_t *nearest; /* (rows) the prototype of the largest cosine, the lower of equals */
    float *cosine;     /* (rows) that cosine */
    struct prototype_set prototypes;
};

/* Of the images picked[0..rows) of d, on all cores. ERR_* with a text. */
int embedding_make(const struct checkpoint *c, const struct dataset *d, const uint32_t *picked, uint32_t rows,
                   struct evaluation_meter *meter, struct embedding *out, struct error *e);
/* Of all images of d, in their order. */
int embedding_make_all(const struct checkpoint *c, const struct dataset *d, struct evaluation_meter *meter,
                       struct embedding *out, struct error *e);
void embedding_fini(struct embedding *x);

#endif
