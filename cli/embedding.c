/* The stages of inference, as the evaluation has them, for images that are picked. */
#include "cli/embedding.h"

#include <stdlib.h>
#include "cli/encoder_load.h"
#include "cli/parallel.h"
#include "cli/prototype_scores.h"
#include "common/blas.h"
#include "common/vecmath.h"

static int assign(struct embedding *x, struct error *e)
{
    uint32_t rows = x->features.rows;
    vec_normalise_rows(x->z, rows, x->D, NULL);
    x->nearest = malloc(sizeof *x->nearest * rows);
    x->cosine = malloc(sizeof *x->cosine * rows);
    if (x->nearest == NULL || x->cosine == NULL ||
        prototype_assign(x->prototypes.unit, x->K, x->D, x->z, rows, parallel_threads(), x->nearest) != 0)
        return error_set(e, ERR_MEMORY, "out of memory for the nearest prototypes of %u images", rows);
    for (uint32_t i = 0; i < rows; i++)
        x->cosine[i] = vec_dot(x->z + (size_t)i * x->D, x->prototypes.unit + (size_t)x->nearest[i] * x->D, x->D);
    return 0;
}

static int extract(const struct checkpoint *c, const struct dataset *d, const uint32_t *picked, uint32_t rows,
                   struct evaluation_meter *meter, struct embedding *out, struct error *e)
{
    struct encoder encoder;
    int rc = encoder_load(c, d, &encoder, e);
    if (rc != 0)
        return rc;
    encoder.meter = meter;
    rc = encoder_features(&encoder, d, picked, rows, parallel_threads(), &out->features, &out->z, e);
    encoder_fini(&encoder);
    return rc;
}

int embedding_make(const struct checkpoint *c, const struct dataset *d, const uint32_t *picked, uint32_t rows,
                   struct evaluation_meter *meter, struct embedding *out, struct error *e)
{
    *out = (struct embedding){0};
    blas_single_threaded();
    int rc = prototype_set_load(c, &out->prototypes, e);
    out->K = out->prototypes.K;
    out->D = out->prototypes.D;
    evaluation_meter_stage(meter, "images", "features");
    if (rc == 0)
        rc = extract(c, d, picked, rows, meter, out, e);
    if (rc == 0)
        rc = assign(out, e);
    if (rc != 0)
        embedding_fini(out);
    return rc;
}

int embedding_make_all(const struct checkpoint *c, const struct dataset *d, struct evaluation_meter *meter,
                       struct embedding *out, struct error *e)
{
    uint32_t *all = malloc(sizeof *all * d->count);
    if (all == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for a list of %u images", d->count);
    for (uint32_t i = 0; i < d->count; i++)
        all[i] = i;
    int rc = embedding_make(c, d, all, d->count, meter, out, e);
    free(all);
    return rc;
}

void embedding_fini(struct embedding *x)
{
    feature_set_fini(&x->features);
    prototype_set_fini(&x->prototypes);
    free(x->z);
    free(x->nearest);
    free(x->cosine);
    *x = (struct embedding){0};
}
