/* The E-step: responsibilities of N embeddings under a published mixture, as two blocked GEMMs in the log domain with the
 * softmax fused on the resident block (shared formulas: l_ik = log_const_k - 1/2 sum h^2/v + sum h mu/v; gamma = softmax(beta l)). */
#ifndef DECANT_WORKER_ESTEP_H
#define DECANT_WORKER_ESTEP_H

#include <stdint.h>
#include "proto/mixture_wire.h"
#include "proto/stats.h"

struct estep_options { uint32_t top; float drop; uint32_t novel_max; };
struct estep; /* scratch for N <= rows_max, and the mixture's GEMM operand [1/v | mu/v], rebuilt per version */

int estep_new(uint32_t rows_max, uint32_t K, uint32_t D, struct estep_options o, struct estep **out);
void estep_free(struct estep **s);
/* Takes the mixture's operands; cheap when the version is the one already held. prototypes c_k = mu_k/|mu_k| are kept too. */
void estep_use(struct estep *s, const struct mixture_view *v);
const float *estep_prototypes(const struct estep *s); /* (K,D), rows of unit length, of the version in use */

struct estep_result {
    struct responsibilities gamma;     /* owned by the estep, until the next call */
    struct stats_extra extra;          /* novelty candidates (farthest first, ties by row), assigned, loglik, dropped */
};
/* h (N,D) unit rows. */
void estep_run(struct estep *s, const float *h, uint32_t N, struct estep_result *out);

#endif
