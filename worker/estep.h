/* The E-step: responsibilities of N embeddings under a published mixture, as blocked products in the log domain with
 * the softmax fused on the resident block. With l_ik = log_const_k + price_k - 1/2 sum_d h_id^2/v_kd + sum_d h_id
 * mu_kd/v_kd (the price is 0 in a mixture without prices): Von Mises-Fisher components: l_ik = log_const_k + price_k
 * + sum_d h_id mu_kd/v_k. Full covariances: l_ik = log_const_k + price_k - 1/2 |W_k (h_i - mu_k)|^2. Tied: the same
 * with one W; what is the same for all components is left to the log-likelihood.
 *
 *   gamma_ik = softmax_k(beta l_ik), those under `drop` removed, of the rest the `top` largest, renormalised
 *   loglik   = sum_i log sum_k exp(l_ik) - D/2 log 2 pi    (von Mises-Fisher: without the last)
 *   novelty  = 1 - max_k h_i.c_k, c_k = mu_k/|mu_k|: of the embeddings that are at least novel_distance away the
 *              farthest, or the first
 *
 * The work runs in blocks of rows that depend on the sizes given at creation only, so that results do not vary. */
#ifndef DECANT_WORKER_ESTEP_H
#define DECANT_WORKER_ESTEP_H

#include <stdint.h>
#include "proto/mixture_wire.h"
#include "proto/stats.h"

struct estep_options {
    uint32_t top;               /* responsibilities kept of an embedding at most; 0 keeps all */
    float drop;                 /* smaller responsibilities are dropped, in [0, 0.5] */
    uint32_t novel_max;         /* novelty candidates at most; 0 skips the search */
    float novel_distance;       /* rho: candidates are at least so far from every prototype */
    enum reseed_choice choice;  /* and the farthest of them, or the first */
    enum covariance covariance; /* of the mixtures that it will use */
};
struct estep; /* scratch for N <= rows_max, and the mixture's operand, packed anew per version */

int estep_new(uint32_t rows_max, uint32_t K, uint32_t D, struct estep_options o, struct estep **out);
void estep_free(struct estep **s);
/* Takes the mixture's operands (copies them, but may read v again); cheap when the version is the one already held.
 * Same K and D. v must stay until the last run with it. */
void estep_use(struct estep *s, const struct mixture_view *v);
const float *estep_prototypes(const struct estep *s); /* (K,D), rows of unit length, of the version in use */

struct estep_result {
    struct responsibilities gamma; /* owned by the estep, until the next call */
    struct stats_extra
        extra; /* novelty candidates (farthest first, ties by row; or by row), assigned, loglik, dropped */
};
/* h (N,D) unit rows, N <= rows_max. */
void estep_run(struct estep *s, const float *h, uint32_t N, struct estep_result *out);

#endif
