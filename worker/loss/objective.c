/* What all objectives share: the logits before an objective, and the gradient's way back to the embeddings after it.
 * It is a file of its own so that calls go one way, from loss.c to the objectives and from those to here. */
#include "worker/loss/objective.h"

#include "worker/nn/rows.h"

void objective_logits(const struct loss_call *call, size_t first)
{
    struct loss_workspace *w = call->w;
    logits_select(&w->logits, call->prototypes, call->order, first);
    logits_forward(&w->logits, w->rows, w->student, w->p);
    if (call->prototypes_teacher != call->prototypes)
        logits_select(&w->logits, call->prototypes_teacher, call->order, first);
    logits_forward(&w->logits, (size_t)2 * w->b, w->teacher, w->q);
}

void objective_balance_teacher(const struct loss_call *call, size_t first)
{
    struct loss_workspace *w = call->w;
    real scale = call->o->balance * call->o->tau_t;
    if (scale == 0)
        return;
    for (size_t k = 0; k < w->width; k++)
        w->column[k] = scale * call->o->price[call->order ? call->order[first + k] : first + k];
    for (size_t i = 0; i < (size_t)2 * w->b; i++)
        row_add(w->q + i * w->width, w->column, w->width);
}

void objective_backward(const struct loss_call *call, size_t first, const real *d)
{
    struct loss_workspace *w = call->w;
    size_t rows = w->rows;
    real *into = first == 0 ? call->dz : w->partial;
    logits_backward(&w->logits, rows, d, call->prototypes, call->order, first, into);
    if (into != call->dz)
        row_add(call->dz, into, rows * w->D);
    if (call->d_prototypes)
        logits_backward_prototypes(&w->logits, rows, w->student, d, call->order, first, call->d_prototypes);
}
