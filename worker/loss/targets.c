/* Targets from the teacher's logits: DINO's centred and sharpened softmax, and SwAV's Sinkhorn-Knopp assignment. */
#include "worker/loss/objective.h"

#include "common/kernels.h"
#include "worker/nn/columns.h"
#include "worker/nn/rows.h"
#include "worker/nn/scalar.h"

/* q = softmax((logits - centre) / tau_t + balance price); the mean of the raw logits is the slot's contribution to
 * the centre. */
void target_dino(const struct loss_call *call)
{
    struct loss_workspace *w = call->w;
    size_t K = w->K, rows = (size_t)2 * w->b;
    columns_sum(w->q, rows, K, w->center);
    row_scale(w->center, 1 / (real)rows, K);
    objective_balance_teacher(call, 0);
    for (size_t i = 0; i < rows; i++) {
        real *q = w->q + i * K;
        for (size_t k = 0; k < K; k++)
            q[k] -= call->center[k];
        row_softmax(q, 1 / call->o->tau_t, K, NULL);
    }
}

STATIC_KERNEL(void, exponentials, (real * q, size_t n, real shift, real scale), (q, n, shift, scale))
{
    for (size_t i = 0; i < n; i++)
        q[i] = real_exp((q[i] - shift) * scale);
}

STATIC_KERNEL(void, scale_columns, (size_t rows, size_t K, const real *restrict inverse, real *restrict q),
              (rows, K, inverse, q))
{
    for (size_t i = 0; i < rows; i++, q += K)
        for (size_t k = 0; k < K; k++)
            q[k] *= inverse[k];
}

/* 1 / (n x), and 0 where nothing arrives at all in this precision. */
static real inverse_share(real x, size_t n)
{
    return x > 0 ? 1 / (x * (real)n) : 0;
}

/* q = exp((logits - max) / epsilon), then alternately every prototype receives 1/K of the mass and every row gives
 * 1/rows of it; at the end rows are scaled to sum to 1. */
void sinkhorn(const struct loss_options *o, size_t rows, size_t K, real *column, real *q)
{
    exponentials(q, rows * K, row_max(q, rows * K), 1 / o->sinkhorn_epsilon);
    for (uint32_t iteration = 0; iteration < o->sinkhorn_iterations; iteration++) {
        columns_sum(q, rows, K, column);
        for (size_t k = 0; k < K; k++)
            column[k] = inverse_share(column[k], K);
        scale_columns(rows, K, column, q);
        for (size_t i = 0; i < rows; i++)
            row_scale(q + i * K, inverse_share(row_sum(q + i * K, K), rows), K);
    }
    row_scale(q, (real)rows, rows * K);
}

void target_swav(const struct loss_call *call)
{
    struct loss_workspace *w = call->w;
    sinkhorn(call->o, w->b, w->K, w->column, w->q);
    sinkhorn(call->o, w->b, w->K, w->column, w->q + (size_t)w->b * w->K);
}
