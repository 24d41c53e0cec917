/* M-step of a component with a full covariance: V = S2/N - mu mu^T, symmetrised, + floor I, published as the W of
 * W V W^T = I: the inverse of V's Cholesky factor. By LAPACK, so that its last bits depend on the BLAS. */
#ifndef DECANT_SERVER_PROTOTYPE_FULL_H
#define DECANT_SERVER_PROTOTYPE_FULL_H

#include <stddef.h>

/* whitening (D,D), lower triangle, from V (D,D), symmetric, which is overwritten. Returns log det of the floats. A V
 * that is not positive definite, which sums that somebody made up can lead to, is made so by adding floor, 10 floor,
 * 100 floor ... to its diagonal. What is not finite becomes NaN. */
double whitening_of(double *V, size_t D, double floor_, float *whitening);
/* The W of V = A / total + floor I, of a covariance that is shared. scratch (D,D). */
double shared_whitening(const double *A, double total, double floor_, size_t D, double *scratch, float *whitening);
/* mean (D) = s1/n, and the rest from s2 (D,D). scratch (D,D). */
double full_row(const double *s1, const double *s2, double n, double floor_, size_t D, double *scratch, float *mean,
                float *whitening);

#endif
