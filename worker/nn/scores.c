/* Softmax over short rows; see scores.h. */
#include "worker/nn/scores.h"

/* Rows at a time, one step for all of them after the other: none waits for another's sum then. */
enum { ROWS = 8 };

#define TEMPLATE "worker/nn/scores_template.h"
#include "worker/nn/each_choice_template.h"

void scores_normalise(size_t rows, size_t n, real scale, real *x)
{
    CHOSEN(normalise)(rows, n, scores_length((uint32_t)n), scale, x);
}

void scores_gradient(size_t rows, size_t n, const real *restrict p, real scale, real *restrict d)
{
    CHOSEN(gradient)(rows, scores_length((uint32_t)n), p, scale, d);
}
