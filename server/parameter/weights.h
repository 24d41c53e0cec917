/* The state that training moves: student, teacher, buffers and the optimiser's moments, each a flat float vector behind
 * a reference-counted buffer. A vector that somebody else still holds (a publication on its way, a checkpoint being
 * written) is never written: an update puts the next version into a pooled buffer, so that publishing and
 * checkpointing copy nothing. Moments are updated in place unless a checkpoint holds them. */
#ifndef DECANT_SERVER_PARAMETER_WEIGHTS_H
#define DECANT_SERVER_PARAMETER_WEIGHTS_H

#include <stdint.h>
#include "common/buf.h"
#include "proto/manifest.h"
#include "common/float_pool.h"
#include "server/parameter/optimiser.h"

struct weight_vectors {
    struct buf *student, *teacher;    /* (P) parameter_floats */
    struct buf *buffers;              /* (Q) buffer_floats; NULL when Q = 0 */
    struct buf *moments[MOMENTS_MAX]; /* (P) each; NULL beyond optimiser_moments() */
};

/* The same vectors, one more reference each. */
struct weight_vectors weight_vectors_ref(const struct weight_vectors *v);
void weight_vectors_fini(struct weight_vectors *v);

struct weights {
    struct manifest manifest; /* owned */
    struct optimiser optimiser;
    struct float_pool *parameter_pool, *buffer_pool; /* (P), (Q); buffer_pool is NULL when Q = 0 */
    struct weight_vectors vectors;
};

/* Takes over the manifest and the vectors' references (also on failure). Moments that are missing start at zero, a
 * missing teacher at the student. parameter_floats > 0; sizes must fit the manifest. 0 or ERR_MEMORY. */
int weights_init(struct weights *w, struct manifest *manifest, struct optimiser optimiser,
                 struct weight_vectors *vectors);
void weights_fini(struct weights *w);

/* One step's contributions and rates. */
struct weights_step {
    const float *gradient; /* (P) summed over slots */
    const float *buffers;  /* (Q) summed over slots; NULL when Q = 0 */
    double slots;          /* M */
    uint64_t step;         /* t, of the weights that the gradient belongs to */
    double lr, ema;        /* lr(t), m(t) */
};

/* Weights t -> t+1: mean gradient, clip, optimiser, unit rows, teacher' = m teacher + (1 - m) student', and for each
 * buffer value' = (1 - momentum) value + momentum mean. *norm: of the mean gradient before clipping. 0; ERR_RANGE when
 * the summed gradient or buffers are not finite (finite slots can overflow in the sum): nothing changes then;
 * ERR_MEMORY: nothing changes. */
int weights_update(struct weights *w, const struct weights_step *s, double *norm);

#endif
