/* The common half of DINO (Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021) and
 * SwAV (Caron et al., NeurIPS 2020): loss = mean over rows i of -sum_k q_i'k log softmax(ls_i / tau_s)_k, i' the other
 * view. */
#include "worker/loss/objective.h"

#include "common/kernels.h"
#include "worker/nn/rows.h"

/* p = share (p - q) */
STATIC_KERNEL(void, difference, (real *restrict p, const real *restrict q, real share, size_t n), (p, q, share, n))
{
    for (size_t k = 0; k < n; k++)
        p[k] = share * (p[k] - q[k]);
}

void objective_cross_entropy(const struct loss_call *call, struct loss_result *result)
{
    struct loss_workspace *w = call->w;
    size_t K = w->K, rows = (size_t)2 * w->b;
    real inverse_tau = 1 / call->o->tau_s, share = inverse_tau / (real)rows;
    double sum = 0;
    for (size_t i = 0; i < rows; i++) {
        real *p = w->p + i * K;
        const real *q = w->q + other_view(i, w->b) * K;
        double linear = (double)inverse_tau * (double)row_dot(p, q, K);
        real log_sum;
        row_softmax(p, inverse_tau, K, &log_sum);
        sum += (double)log_sum - linear;
        difference(p, q, share, K);
    }
    objective_backward(call, 0, w->p);
    *result = (struct loss_result){.loss = sum / (double)rows, .consistency = sum / (double)rows};
}
