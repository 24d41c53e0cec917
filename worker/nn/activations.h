/* GELU over an array. */
#ifndef DECANT_WORKER_NN_ACTIVATIONS_H
#define DECANT_WORKER_NN_ACTIVATIONS_H

#include "worker/nn/real.h"

void gelu_forward(const real *x, size_t n, real *y);
/* d: gradient wrt y, replaced by that wrt x; y once more, which saves keeping it */
void gelu_backward(const real *restrict x, size_t n, real *restrict d, real *restrict y);

#endif
