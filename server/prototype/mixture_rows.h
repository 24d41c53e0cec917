/* The M-step of one component (8): what is published of it, from its statistics.
 *
 *   mu = S1/N, v = max(S2/N - mu^2, floor)      spherical: the mean of v over d, then the floor
 *   von Mises-Fisher: mu = S1/|S1|, 1/kappa of R = |S1|/N, no smaller than the floor
 *   full: W of V = S2/N - mu mu^T + floor I (full.h)      tied: mu alone, W is one for all (tied.h)
 *
 * Pure: the same statistics give the same floats, in whatever thread and whenever. */
#ifndef DECANT_SERVER_PROTOTYPE_MIXTURE_ROWS_H
#define DECANT_SERVER_PROTOTYPE_MIXTURE_ROWS_H

#include "server/prototype/mixture.h"

/* Fills mean (D) and variance (covariance_width). Returns m->quadratic[k] of these floats. scratch: (D,D) when
 * covariances are full, else unused. */
double mixture_row(const struct mixture *m, uint32_t k, double *scratch, float *mean, float *variance);

#endif
