/* Inside of worker/loss: what loss.c prepares and the objectives consume. Calls go one way: loss.c calls an objective
 * (carp.c; targets.c and cross_entropy.c), and that calls objective.c. Row i of one view looks at row (i + b) mod
 * 2b, the same image's other view, of the teacher; a local row at both views of its image. */
#ifndef DECANT_WORKER_LOSS_OBJECTIVE_H
#define DECANT_WORKER_LOSS_OBJECTIVE_H

#include "worker/loss/logits.h"
#include "worker/loss/loss.h"

struct loss_workspace {
    struct arena arena;
    struct logits logits;
    uint32_t b, K, D, width; /* width: block for carp, else K */
    uint32_t rows;           /* the student's: 2b and those of local views */
    uint32_t pairs;          /* of a view of the student and one of the teacher that are compared, times b */
    real *student, *teacher; /* (rows,D) and (2b,D): embeddings, normalised when asked for */
    real *norm;              /* (rows) of the student's rows */
    real *p, *q;             /* (rows,width) and (2b,width): logits, then probabilities */
    real *partial;           /* (rows,D): one block's share of dz */
    real *target;            /* (width): what a local row is compared with */
    real *best;              /* (rows): cosine of a prototype to its nearest */
    uint32_t *nearest;       /* (rows): which one that is */
    real *column;            /* (width) */
    real *log_mean;          /* (width): of the student's probabilities */
    real *factor;            /* coding_rate_factor(2b, D) reals, when that term is in use */
    real *center;            /* (K): dino's mean teacher logits */
};

/* One call's inputs and outputs. */
struct loss_call {
    const struct loss_options *o;
    const real *prototypes, *prototypes_teacher; /* the same ones when decoupled */
    const uint32_t *order;
    const real *center;
    real *d_prototypes; /* NULL when decoupled */
    struct loss_workspace *w;
    real *dz; /* (rows,D): gradient wrt the embeddings in w->student */
};

static inline size_t other_view(size_t i, size_t b)
{
    return i < b ? i + b : i - b;
}

/* ---- objective.c ---- */

/* Logits of prototypes first..first+width of the order into w->p and w->q. */
void objective_logits(const struct loss_call *call, size_t first);
/* Adds (or writes, for first = 0) the gradient that flows through d (rows,width) to dz and, in joint mode, to the
 * prototypes. */
void objective_backward(const struct loss_call *call, size_t first, const real *d);

/* To be called before the teacher's softmax with tau_t: the prices of prototypes first..first+width of the order join
 * the logits in w->q. Nothing without prices. */
void objective_balance_teacher(const struct loss_call *call, size_t first);

/* ---- the objectives ---- */

void objective_carp(const struct loss_call *call, struct loss_result *result);
/* H(pbar), 0..log n, for pbar = sum / rows (n), and its logarithms: mean_entropy.c says what for. sum may be
 * log_mean. */
double mean_entropy_of(const real *sum, size_t rows, size_t n, real *log_mean);

/* KoLeo's value over the call's share of prototypes; its gradient, times joint->koleo, is added to d_prototypes. Uses
 * w->p and w->partial. */
double koleo_add(const struct loss_call *call, const struct loss_joint *joint);
/* Half-decoupled: the prototypes' own loss on w->teacher; d_prototypes is overwritten with its gradient. Uses w->p,
 * w->q. */
double prototype_loss(const struct loss_call *call);

/* q (rows,K): logits become Sinkhorn's assignment, rows sum to 1. column (K) is scratch. */
void sinkhorn(const struct loss_options *o, size_t rows, size_t K, real *column, real *q);
/* Targets q (2b,K) from the teacher's logits in w->q, in place. */
void target_dino(const struct loss_call *call);
void target_swav(const struct loss_call *call);
/* Cross-entropy of the student's softmax under the other view's target. */
void objective_cross_entropy(const struct loss_call *call, struct loss_result *result);

#endif
