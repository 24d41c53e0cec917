/* What the joint baselines may add for the prototypes themselves. Both see prototypes as parameters, so neither
 * exists in decoupled training.
 *
 * KoLeo (Sablayrolles et al., "Spreading vectors for similarity search", ICLR 2019; on prototypes: "Why Prototypes
 * Collapse", arXiv 2510.20108): w times -1/K sum_k log |c_k - c_n(k)|, n(k) the nearest other prototype. It costs K K
 * D products, which the slots of a step share: one takes every `every`-th prototype from `first` on and weighs it by
 * `every`, so the mean over slots is the whole term.
 *
 * A loss of their own (half-decoupled, as CAPI: Darcet et al., "Cluster and Predict Latent Patches for Improved
 * Masked Image Modeling", 2025): cross-entropy of softmax(z c / tau_s), z the teacher's embeddings, under Sinkhorn's
 * balanced assignment of the same logits, which is a constant. For CARP within the blocks of the step. */
#include "worker/loss/objective.h"

#include <math.h>
#include <string.h>
#include "worker/nn/rows.h"

#define DISTANCE_MIN 1e-4 /* copies push apart with a finite force */

/* The chunk's own prototypes, rows first, first + every, ..., against `width` prototypes from `at` on: their best
 * cosine to another one so far. */
static void nearer(const struct loss_call *call, size_t first, size_t every, size_t rows, size_t at)
{
    struct loss_workspace *w = call->w;
    for (size_t i = 0; i < rows; i++) {
        const real *cosine = w->p + i * w->width;
        size_t k = first + i * every;
        for (size_t c = 0; c < w->width; c++)
            if (at + c != k && cosine[c] > w->best[i]) {
                w->best[i] = cosine[c];
                w->nearest[i] = (uint32_t)(at + c);
            }
    }
}

/* -log of the distance of prototype k to prototype n; its gradient, times scale, to both. */
static double push_apart(const struct loss_call *call, size_t k, size_t n, double scale)
{
    size_t D = call->w->D;
    const real *a = call->prototypes + k * D, *b = call->prototypes + n * D;
    double square = 0;
    for (size_t d = 0; d < D; d++)
        square += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
    square = square > DISTANCE_MIN * DISTANCE_MIN ? square : DISTANCE_MIN * DISTANCE_MIN;
    for (size_t d = 0; d < D; d++) {
        real pull = (real)(scale / square * ((double)a[d] - (double)b[d]));
        call->d_prototypes[k * D + d] -= pull;
        call->d_prototypes[n * D + d] += pull;
    }
    return -0.5 * log(square);
}

double koleo_add(const struct loss_call *call, const struct loss_joint *joint)
{
    struct loss_workspace *w = call->w;
    size_t K = w->K, D = w->D, every = joint->koleo_every;
    double sum = 0, share = (double)every / (double)K;
    for (size_t first = joint->koleo_first; first < K; first += w->rows * every) {
        size_t left = (K - first + every - 1) / every, rows = left < w->rows ? left : w->rows;
        for (size_t i = 0; i < rows; i++) {
            memcpy(w->partial + i * D, call->prototypes + (first + i * every) * D, D * sizeof(real));
            w->best[i] = -2;
            w->nearest[i] = 0;
        }
        for (size_t at = 0; at < K; at += w->width) {
            logits_select(&w->logits, call->prototypes, NULL, at);
            logits_forward(&w->logits, rows, w->partial, w->p);
            nearer(call, first, every, rows, at);
        }
        for (size_t i = 0; i < rows; i++)
            sum += push_apart(call, first + i * every, w->nearest[i], (double)joint->koleo * share);
    }
    return sum * share;
}

double prototype_loss(const struct loss_call *call)
{
    struct loss_workspace *w = call->w;
    size_t rows = (size_t)2 * w->b, blocks = w->K / w->width;
    real inverse_tau = 1 / call->o->tau_s, share = inverse_tau / ((real)rows * (real)blocks), log_sum;
    double sum = 0;
    for (size_t block = 0; block < blocks; block++) {
        logits_select(&w->logits, call->prototypes, call->order, block * w->width);
        logits_forward(&w->logits, rows, w->teacher, w->p);
        memcpy(w->q, w->p, rows * w->width * sizeof(real));
        sinkhorn(call->o, rows, w->width, w->column, w->q);
        for (size_t i = 0; i < rows; i++) {
            real *p = w->p + i * w->width;
            const real *q = w->q + i * w->width;
            double linear = (double)inverse_tau * (double)row_dot(p, q, w->width);
            row_softmax(p, inverse_tau, w->width, &log_sum);
            sum += (double)log_sum - linear;
            for (size_t k = 0; k < w->width; k++)
                p[k] = share * (p[k] - q[k]);
        }
        logits_backward_prototypes(&w->logits, rows, w->teacher, w->p, call->order, block * w->width,
                                   call->d_prototypes);
    }
    return sum / ((double)rows * (double)blocks);
}
