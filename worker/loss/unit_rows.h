/* Rows divided by their lengths, and gradients through that. A length below 1e-12 counts as 1e-12: a row of zeros stays
 * one, and its gradient is finite. */
#ifndef DECANT_WORKER_LOSS_UNIT_ROWS_H
#define DECANT_WORKER_LOSS_UNIT_ROWS_H

#include <stddef.h>
#include "worker/nn/real.h"

/* unit = z (rows,D), its rows divided by their lengths; `lengths` (rows), when not NULL, receives these. */
void unit_rows(const real *z, size_t rows, size_t D, real *unit, real *lengths);
/* d (rows,D), a gradient with respect to `unit`, becomes that with respect to z: d = (d - unit (unit . d)) / length. */
void unit_rows_backward(const real *unit, const real *lengths, size_t rows, size_t D, real *d);

#endif
