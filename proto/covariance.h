/* What the forms of a mixture's components have, in floats of a component: what is published of its spread, and what
 * the statistics say of it.
 *
 *   form       spread of a version                               `s2` of statistics
 *   spherical  `variance`: v, of every dimension                 sum of gamma h^2, by dimension
 *   diag       `variance`: v_d                                   the same
 *   vmf        `variance`: 1/kappa, kappa the concentration      nothing
 *   full       `whitening`: W (D*D), by rows, lower triangle     sum of gamma h h^T (D*D), by rows, symmetric
 *              with a diagonal > 0, of W V W^T = I
 *   tied       `whitening` (D,D), the same, of all components    sum of h h^T (D,D) over all embeddings
 *
 * Matrices of components travel as rows of D*D floats, because a tensor of rank 2 is all that anything here needs to
 * know. */
#ifndef DECANT_PROTO_COVARIANCE_H
#define DECANT_PROTO_COVARIANCE_H

#include <stdbool.h>
#include <stddef.h>
#include "proto/choices.h"

/* K D^2 of matrices at most: 128 MiB of statistics in double, and 64 MiB in a full version. */
enum { COVARIANCE_MATRIX_FLOATS_MAX = 1 << 24, COVARIANCE_TIED_DIMENSIONS_MAX = 1024 };

/* Floats of a component's spread; 0 when it is shared. */
size_t covariance_width(enum covariance c, size_t D);
/* Floats of the one spread, and of the one s2, that all components share: D*D, or 0. */
size_t covariance_shared_width(enum covariance c, size_t D);
/* Whether that is one number, so that the tensor has rank 1: (K). */
bool covariance_is_scalar(enum covariance c);
/* Name of the tensor: "variance" or "whitening". */
const char *covariance_tensor(enum covariance c);
/* Floats of a component's s2; with 0 there is none, or a shared one. */
size_t covariance_square_width(enum covariance c, size_t D);
/* Whether the spreads of n components (or the shared one, n = 1) can be: positive, triangles as above. Finite they
 * are. */
bool covariance_possible(enum covariance c, size_t D, const float *spread, size_t n);

#endif
