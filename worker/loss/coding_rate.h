/* The coding rate of unit rows, a term of the loss; the formulas stand on top of coding_rate.c. */
#ifndef DECANT_WORKER_LOSS_CODING_RATE_H
#define DECANT_WORKER_LOSS_CODING_RATE_H

#include <stddef.h>
#include "worker/nn/real.h"

struct coding_rate {
    size_t m, p;          /* rows, dimensions */
    real weight, epsilon; /* lambda; precision, > 0 */
    real *factor;         /* coding_rate_factor(m, p) reals of scratch */
    real *partial;        /* (m,p), scratch */
};

size_t coding_rate_factor(size_t m, size_t p); /* of the smaller matrix: min(m, p) squared */

/* R of z (m,p), in nats, NAN when z is not finite. -weight times its gradient is added to d (m,p). */
double coding_rate_add(const struct coding_rate *c, const real *z, real *d);

#endif
