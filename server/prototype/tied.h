/* The statistics of a covariance that all components share. Not S2 of each component but the pooled scatter
 *
 *   A = sum_k (S2_k - S1_k S1_k^T / N_k)          V = A / sum_k N_k
 *
 * is kept, a sum of squares, so that it stays one whatever is forgotten. A step's embeddings, with the sum T of
 * their outer products and s1_k, n_k of each component, change it by
 *
 *   A <- Lambda A + (T - sum_k s1_k s1_k^T / n_k) + sum_k c_k d_k d_k^T
 *   c_k = lambda_k N_k n_k / (lambda_k N_k + n_k),  d_k = S1_k / N_k - s1_k / n_k,
 *   Lambda = sum_k lambda_k N_k / sum_k N_k
 *
 * that is by the scatter within the step's components, and by that between each component as it was and as it is in
 * the step (Chan, Golub and LeVeque, 1983). Lambda is the share of all mass that is left, so that A loses what N
 * loses. When all lambda_k are equal, and so without forgetting, A is exactly the sum above. */
#ifndef DECANT_SERVER_PROTOTYPE_TIED_H
#define DECANT_SERVER_PROTOTYPE_TIED_H

#include "proto/stats.h"

/* A (D,D), symmetric, from mass (K) and s1 (K,D) as they are before the step, and the step's statistics. eta:
 * forgetting. scratch (D). */
void tied_fold(double *A, const double *mass, const double *s1, double eta, const struct stats_rows *s,
               double *scratch);
/* Component k, of mass n out of `total`, is taken away with its share of A, and a fresh one of mass n0 and variance
 * s0 in every dimension put in its place. */
void tied_replace(double *A, size_t D, double n, double total, double n0, double s0);

#endif
