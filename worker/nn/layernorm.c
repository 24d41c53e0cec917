/* LayerNorm; see layernorm.h. */
#include "worker/nn/layernorm.h"

#define EPSILON REAL(1e-5)

/* Rows at a time, one step for all of them after the other: none waits for another's sum then. */
enum { ROWS = 8 };

struct moments {
    real mean, inverse; /* of a row; 1/deviation */
};

/* Of a row's gamma d_y. */
struct through {
    real mean, along; /* mean; mean product with xhat */
};

#define TEMPLATE "worker/nn/layernorm_template.h"
#include "worker/nn/each_choice_template.h"

void layernorm_forward(const struct layernorm *l, const real *x, size_t rows, real *y)
{
    CHOSEN(forward)(x, rows, l->n, l->gamma, l->beta, y);
}

void layernorm_backward(const struct layernorm *l, const real *x, size_t rows, const real *d_y, real *d_x, real *y)
{
    CHOSEN(backward)(x, rows, l->n, l->gamma, l->beta, d_y, d_x, y, l->d_gamma, l->d_beta);
}
