/* What the forms of a mixture's components have, in floats of a component: what is published of its spread, and what the
 * statistics say of it.
 *
 *   form       `variance` of a version              `s2` of statistics
 *   spherical  v, of every dimension                sum of gamma h^2, by dimension
 *   diag       v_d                                  the same
 *   vmf        1/kappa, kappa the concentration     nothing */
#ifndef DECANT_PROTO_COVARIANCE_H
#define DECANT_PROTO_COVARIANCE_H

#include <stdbool.h>
#include <stddef.h>
#include "proto/choices.h"

/* Floats of a component's `variance`. */
size_t covariance_width(enum covariance c, size_t D);
/* Whether that is one number, so that the tensor has rank 1: (K). */
bool covariance_is_scalar(enum covariance c);
/* Floats of a component's s2; with 0 there is no such tensor. */
size_t covariance_square_width(enum covariance c, size_t D);

#endif
