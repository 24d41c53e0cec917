/* Rows of unit length; see unit_rows.h. */
#include "worker/loss/unit_rows.h"

#include <math.h>
#include <string.h>
#include "worker/nn/rows.h"

#define LENGTH_MIN REAL(1e-12) /* as PyTorch's F.normalize */

void unit_rows(const real *z, size_t rows, size_t D, real *unit, real *lengths)
{
    memcpy(unit, z, rows * D * sizeof(real));
    for (size_t i = 0; i < rows; i++) {
        real length = (real)sqrt(row_dot(z + i * D, z + i * D, D));
        length = length > LENGTH_MIN ? length : LENGTH_MIN;
        row_scale(unit + i * D, 1 / length, D);
        if (lengths)
            lengths[i] = length;
    }
}

void unit_rows_backward(const real *unit, const real *lengths, size_t rows, size_t D, real *d)
{
    for (size_t i = 0; i < rows; i++) {
        const real *u = unit + i * D;
        real *g = d + i * D, along = row_dot(u, g, D), inverse = 1 / lengths[i];
        for (size_t j = 0; j < D; j++)
            g[j] = (g[j] - along * u[j]) * inverse;
    }
}
