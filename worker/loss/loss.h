/* Objectives on two views: CARP, DINO, SwAV, and two terms that any of them may have: mean entropy and coding rate
 * (formulas and sources stand on top of each file). Prototypes come in as `const real *`. In decoupled training nothing
 * about them comes out: this is the wall inside the worker. The joint baselines ask for their gradient through a
 * separate struct. */
#ifndef DECANT_WORKER_LOSS_LOSS_H
#define DECANT_WORKER_LOSS_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/choices.h"
#include "worker/nn/real.h"

struct loss_options {
    enum loss_objective objective;
    uint32_t b, K, D;    /* images in the slot, prototypes, dimensions */
    uint32_t block;      /* carp: P */
    real tau_s, tau_t;   /* of this step (dino's warm-up is applied by the caller) */
    real entropy_weight; /* carp: w_H */
    real sinkhorn_epsilon;
    uint32_t sinkhorn_iterations; /* swav */
    uint32_t normalise;           /* 1: z rows are normalised first (the recipe); 0: raw, as CARP's public code */
    real mean_entropy;            /* w: loss - w H(mean of the student's softmax over both views); 0: none */
    real coding_rate;             /* lambda: loss - lambda R(student's embeddings); 0: none */
    real coding_rate_epsilon;     /* its precision, > 0 when in use */
    const real *price;            /* (K): balance x price is added to the teacher's logits over tau_t, not in swav */
    real balance;                 /* 0: no prices are needed */
    uint32_t local;               /* views of the student beside the two: rows of z_student are (2 + local) b */
};

struct loss_workspace;
int loss_workspace_new(const struct loss_options *o, struct loss_workspace **out); /* sized for o's b, K, D and terms */
void loss_workspace_free(struct loss_workspace **w);

/* loss = consistency + entropy_weight entropy - options.mean_entropy mean_entropy - options.coding_rate coding_rate
 *        + joint.koleo koleo */
struct loss_result {
    double loss, consistency;
    double entropy;      /* carp: its own term; else 0 */
    double mean_entropy; /* nats, 0..ln K (carp: the mean over blocks, 0..ln P); 0 when not in use */
    double prototypes;   /* half-decoupled: the prototypes' own loss, not in `loss`; else 0 */
    double koleo; /* -log of a prototype's distance to its nearest, mean over the call's share; 0 when not in use */
    double coding_rate; /* nats, 0..(p + m)/(p m) min(p, m) ln(1 + p / (min(p, m) epsilon)); 0 when not in use */
};

/* z_student ((2 + local) b, D), z_teacher (2b,D) raw projections, rows 0..b-1 view 1, rows 2b.. local views. A view
 * is compared with the other view of the teacher, a local one with both; means are over all 2 + 2 local pairs.
 * prototypes (K,D), rows of unit length in the recipe. order (K): carp's permutation of the step, else NULL. center
 * (K): dino's centre, else NULL. dz: gradient wrt z_student. */
void loss_decoupled(const struct loss_options *o, const real *z_student, const real *z_teacher, const real *prototypes,
                    const uint32_t *order, const real *center, struct loss_workspace *w, struct loss_result *result,
                    real *dz);

/* The joint baselines: the student's logits use `prototypes` (parameters), the teacher's `prototypes_teacher` (their
 * EMA). d_prototypes (K,D): gradient wrt prototypes as given. prototype_terms.c has the formulas of the last four. */
struct loss_joint {
    const real *prototypes_teacher;
    real *d_prototypes;
    bool own;   /* half-decoupled: it is that of a loss of their own instead of the objective's */
    real koleo; /* w: loss + w KoLeo(prototypes of unit length); 0: no such term */
    uint32_t koleo_first, koleo_every; /* of which prototypes this call computes it: the slot and the number of slots */
};
void loss_joint(const struct loss_options *o, const real *z_student, const real *z_teacher, const real *prototypes,
                const uint32_t *order, const real *center, const struct loss_joint *joint, struct loss_workspace *w,
                struct loss_result *result, real *dz);

/* dino: mean over rows of the teacher's raw logits ẑ_t·C (K), of the last call: the slot's contribution to the centre.
 */
void loss_center_contribution(const struct loss_workspace *w, real *out);

#endif
