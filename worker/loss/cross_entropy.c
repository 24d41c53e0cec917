/* The common half of DINO (Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021) and
 * SwAV (Caron et al., NeurIPS 2020): loss = mean over pairs of rows (i, i') of -sum_k q_i'k log softmax(ls_i /
 * tau_s)_k, i' the other view; for a local row the mean of both targets counts twice. */
#include "worker/loss/objective.h"

#include "common/kernels.h"
#include "worker/nn/columns.h"
#include "worker/nn/rows.h"

/* p = share (p - q) */
STATIC_KERNEL(void, difference, (real *restrict p, const real *restrict q, real share, size_t n), (p, q, share, n))
{
    for (size_t k = 0; k < n; k++)
        p[k] = share * (p[k] - q[k]);
}

/* p = share (p - q) + weight (p log_mean - p (p . log_mean)): the same, with mean entropy's gradient. */
STATIC_KERNEL(void, balanced_difference,
              (real *restrict p, const real *restrict q, real share, const real *restrict log_mean, real weight,
               real along, size_t n),
              (p, q, share, log_mean, weight, along, n))
{
    for (size_t k = 0; k < n; k++)
        p[k] = share * (p[k] - q[k]) + weight * p[k] * (log_mean[k] - along);
}

/* What row i is compared with, and how many pairs that stands for. */
static const real *target_of(const struct loss_workspace *w, size_t i, real *pairs)
{
    size_t K = w->K, b = w->b;
    *pairs = i < 2 * b ? 1 : 2;
    if (i < 2 * b)
        return w->q + other_view(i, b) * K;
    const real *one = w->q + i % b * K, *other = one + b * K;
    for (size_t k = 0; k < K; k++)
        w->target[k] = (one[k] + other[k]) / 2;
    return w->target;
}

/* All rows of p, which are probabilities still, become the gradient wrt their logits. Returns H(pbar). */
static double balance(const struct loss_call *call, real share)
{
    struct loss_workspace *w = call->w;
    size_t K = w->K, rows = w->rows;
    real weight = call->o->mean_entropy / (call->o->tau_s * (real)rows), pairs;
    columns_sum(w->p, rows, K, w->log_mean);
    double entropy = mean_entropy_of(w->log_mean, rows, K, w->log_mean);
    for (size_t i = 0; i < rows; i++) {
        real *p = w->p + i * K;
        const real *q = target_of(w, i, &pairs);
        balanced_difference(p, q, pairs * share, w->log_mean, weight, row_dot(p, w->log_mean, K), K);
    }
    return entropy;
}

void objective_cross_entropy(const struct loss_call *call, struct loss_result *result)
{
    struct loss_workspace *w = call->w;
    size_t K = w->K;
    real inverse_tau = 1 / call->o->tau_s, share = inverse_tau / (real)w->pairs, pairs;
    double sum = 0;
    for (size_t i = 0; i < w->rows; i++) {
        real *p = w->p + i * K;
        const real *q = target_of(w, i, &pairs);
        double linear = (double)inverse_tau * (double)row_dot(p, q, K);
        real log_sum;
        row_softmax(p, inverse_tau, K, &log_sum);
        sum += (double)pairs * ((double)log_sum - linear);
        if (call->o->mean_entropy == 0)
            difference(p, q, pairs * share, K);
    }
    *result = (struct loss_result){.loss = sum / (double)w->pairs, .consistency = sum / (double)w->pairs};
    if (call->o->mean_entropy != 0)
        result->mean_entropy = balance(call, share);
    result->loss -= (double)call->o->mean_entropy * result->mean_entropy;
    objective_backward(call, 0, w->p);
}
