/* GELU over an array. */
#ifndef DECANT_WORKER_NN_ACTIVATIONS_H
#define DECANT_WORKER_NN_ACTIVATIONS_H

#include "worker/nn/real.h"

void gelu_forward(const real *x, size_t n, real *y);
void gelu_backward(const real *x, size_t n, real *d); /* d: gradient wrt y, replaced by that wrt x */

#endif
