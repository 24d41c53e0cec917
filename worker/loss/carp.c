/* CARP: consistency of random partitions of the prototypes (Silva & Ramirez Rivera, "Representation Learning via
 * Consistent Assignment of Views over Random Partitions", NeurIPS 2023).
 *
 * Within each of R = K/P blocks of the step's order: p, q = softmax of the student's and the teacher's logits.
 *   consistency = mean over pairs of rows (i, i') and blocks of -log clamp(sum_c p_i q_i'), i' the other view of i, or
 *                 either view when i is local
 *   entropy     = mean over blocks of log P + sum_c pbar log clamp(pbar), pbar the mean of all p and q rows
 *   loss        = consistency + w_H entropy
 * Mean entropy, when in use, is that of the student's softmax within blocks, a mean over blocks as well.
 * Blocks are independent, so each goes forward and backward while its (2b,P) probabilities are in cache. */
#include "worker/loss/objective.h"

#include <math.h>
#include "common/kernels.h"
#include "worker/nn/columns.h"
#include "worker/nn/rows.h"

#define CLAMP REAL(1.1920928955078125e-7) /* 2^-23: probabilities are clamped to [CLAMP, 1 - CLAMP] */

static real clamp(real x)
{
    return x < CLAMP ? CLAMP : x > 1 - CLAMP ? 1 - CLAMP : x;
}

/* Mean entropy of one block, from its column sums over the student's rows. Adds its gradient to w->column. */
static double block_mean_entropy(const struct loss_call *call, const real *sum, size_t blocks)
{
    struct loss_workspace *w = call->w;
    double entropy = mean_entropy_of(sum, w->rows, w->width, w->log_mean);
    real weight = call->o->mean_entropy / ((real)w->rows * (real)blocks);
    for (size_t c = 0; c < w->width; c++)
        w->column[c] += weight * w->log_mean[c];
    return entropy;
}

/* Entropy terms of one block; w->column receives its gradient wrt any row of p, times their weights.
 * They are added to the result's, divided by the number of blocks. */
static void block_entropy(const struct loss_call *call, size_t blocks, struct loss_result *result)
{
    struct loss_workspace *w = call->w;
    size_t P = w->width, rows = w->rows, both = (size_t)2 * w->b;
    real mean_scale = 1 / (real)(rows + both), weight = call->o->entropy_weight / (real)blocks;
    real *teacher = w->partial; /* not yet in use in this block */
    real *student = w->log_mean;
    columns_sum(w->p, rows, P, student);
    columns_sum(w->q, both, P, teacher);
    double entropy = log((double)P);
    for (size_t c = 0; c < P; c++) {
        real mean = (student[c] + teacher[c]) * mean_scale, bounded = clamp(mean);
        double logarithm = log((double)bounded);
        entropy += (double)mean * logarithm;
        w->column[c] = weight * mean_scale * (real)(logarithm + (bounded == mean ? 1 : 0));
    }
    result->entropy += entropy / (double)blocks;
    if (call->o->mean_entropy != 0)
        result->mean_entropy += block_mean_entropy(call, student, blocks) / (double)blocks;
}

/* p becomes the gradient wrt its logits: with g = column - q scale, scale / tau (p g - p sum p g). */
STATIC_KERNEL(void, softmax_gradient,
              (size_t P, const real *restrict q, const real *restrict column, real scale, real mean, real inverse_tau,
               real *restrict p),
              (P, q, column, scale, mean, inverse_tau, p))
{
    for (size_t c = 0; c < P; c++)
        p[c] = inverse_tau * p[c] * (column[c] - scale * q[c] - mean);
}

/* One pair of rows: adds -log clamp(p . q) to *sum. Returns what q is to be weighed with in the gradient, and adds that
 * times p . q to *along. */
static real pair(const real *p, const real *q, size_t P, real share, double *sum, real *along)
{
    real agreement = row_dot(p, q, P), bounded = clamp(agreement);
    real scale = bounded == agreement ? share / agreement : 0;
    *sum -= log((double)bounded);
    *along += scale * agreement;
    return scale;
}

/* A local row: both views of its image, weighed, are its target. */
static double local_row(const struct loss_call *call, size_t i, real share)
{
    struct loss_workspace *w = call->w;
    size_t P = w->width, b = w->b;
    real *p = w->p + i * P, along = 0;
    const real *one = w->q + i % b * P, *other = one + b * P;
    double sum = 0;
    real first = pair(p, one, P, share, &sum, &along), second = pair(p, other, P, share, &sum, &along);
    for (size_t c = 0; c < P; c++)
        w->target[c] = first * one[c] + second * other[c];
    softmax_gradient(P, w->target, w->column, 1, row_dot(p, w->column, P) - along, 1 / call->o->tau_s, p);
    return sum;
}

/* Consistency of one block; w->p becomes the gradient of the whole block's loss wrt the logits. */
static double block_consistency(const struct loss_call *call, size_t blocks)
{
    struct loss_workspace *w = call->w;
    size_t P = w->width, b = w->b;
    real share = 1 / ((real)w->pairs * (real)blocks);
    double sum = 0;
    for (size_t i = 0; i < 2 * b; i++) {
        real *p = w->p + i * P, along = 0;
        const real *q = w->q + other_view(i, b) * P;
        real scale = pair(p, q, P, share, &sum, &along);
        softmax_gradient(P, q, w->column, scale, row_dot(p, w->column, P) - along, 1 / call->o->tau_s, p);
    }
    for (size_t i = 2 * b; i < w->rows; i++)
        sum += local_row(call, i, share);
    return sum / (double)w->pairs;
}

void objective_carp(const struct loss_call *call, struct loss_result *result)
{
    struct loss_workspace *w = call->w;
    size_t P = w->width, blocks = w->K / P;
    *result = (struct loss_result){0};
    for (size_t block = 0; block < blocks; block++) {
        objective_logits(call, block * P);
        for (size_t i = 0; i < w->rows; i++)
            row_softmax(w->p + i * P, 1 / call->o->tau_s, P, NULL);
        objective_balance_teacher(call, block * P);
        for (size_t i = 0; i < (size_t)2 * w->b; i++)
            row_softmax(w->q + i * P, 1 / call->o->tau_t, P, NULL);
        block_entropy(call, blocks, result);
        result->consistency += block_consistency(call, blocks) / (double)blocks;
        objective_backward(call, block * P, w->p);
    }
    result->loss = result->consistency + (double)call->o->entropy_weight * result->entropy -
                   (double)call->o->mean_entropy * result->mean_entropy;
}
