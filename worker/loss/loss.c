/* Entry points: embeddings are normalised, the objective works on logits, and its gradient goes back through the
 * normalisation. Formulas stand with each objective (carp.c, cross_entropy.c, targets.c). Decoupled and joint differ in
 * one pointer: without d_prototypes no prototype gradient is computed anywhere. */
#include "worker/loss/objective.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "proto/run_config.h"
#include "worker/loss/coding_rate.h"
#include "worker/loss/unit_rows.h"

static void carve(struct loss_workspace *w, bool coding_rate)
{
    size_t rows = w->rows, both = (size_t)2 * w->b, partial = rows * w->D > w->width ? rows * w->D : w->width;
    w->student = arena_reals(&w->arena, rows * w->D);
    w->teacher = arena_reals(&w->arena, both * w->D);
    w->norm = arena_reals(&w->arena, rows);
    w->p = arena_reals(&w->arena, rows * w->width);
    w->q = arena_reals(&w->arena, both * w->width);
    w->partial = arena_reals(&w->arena, partial);
    w->column = arena_reals(&w->arena, w->width);
    w->target = arena_reals(&w->arena, w->width);
    w->best = arena_reals(&w->arena, rows);
    w->log_mean = arena_reals(&w->arena, w->width);
    w->factor = coding_rate ? arena_reals(&w->arena, coding_rate_factor(both, w->D)) : NULL;
    w->center = arena_reals(&w->arena, w->K);
    logits_carve(&w->logits, &w->arena);
}

int loss_workspace_new(const struct loss_options *o, struct loss_workspace **out)
{
    ASSERT(o->b > 0 && o->K > 0 && o->D > 0);
    ASSERT(o->coding_rate == 0 || o->coding_rate_epsilon > 0);
    ASSERT(o->objective != LOSS_CARP || (o->block > 0 && o->K % o->block == 0));
    struct loss_workspace *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w)
        return ERR_MEMORY;
    w->b = o->b;
    w->K = o->K;
    w->D = o->D;
    w->rows = (2 + o->local) * o->b;
    w->pairs = (2 + 2 * o->local) * o->b;
    w->width = o->objective == LOSS_CARP ? o->block : o->K;
    w->nearest = calloc(w->rows, sizeof *w->nearest);
    if (w->nearest == NULL || logits_init(&w->logits, w->D, w->width) != 0)
        goto fail;
    carve(w, o->coding_rate != 0);
    if (arena_allocate(&w->arena) != 0)
        goto fail;
    carve(w, o->coding_rate != 0);
    *out = w;
    return 0;
fail:
    loss_workspace_free(&w);
    return ERR_MEMORY;
}

void loss_workspace_free(struct loss_workspace **w)
{
    if (!*w)
        return;
    logits_fini(&(*w)->logits);
    arena_free(&(*w)->arena);
    free((*w)->nearest);
    free(*w);
    *w = NULL;
}

static void embed(const struct loss_options *o, const real *z, size_t rows, real *out, real *lengths)
{
    if (o->normalise)
        unit_rows(z, rows, o->D, out, lengths);
    else
        memcpy(out, z, rows * o->D * sizeof(real));
}

static void run(const struct loss_call *call, const real *z_student, const real *z_teacher, struct loss_result *result)
{
    const struct loss_options *o = call->o;
    struct loss_workspace *w = call->w;
    ASSERT(o->b == w->b && o->K == w->K && o->D == w->D && (2 + o->local) * o->b == w->rows);
    logits_begin(&w->logits);
    embed(o, z_student, w->rows, w->student, w->norm);
    embed(o, z_teacher, (size_t)2 * w->b, w->teacher, NULL);
    if (o->objective == LOSS_CARP) {
        ASSERT(call->order && o->block == w->width);
        objective_carp(call, result);
    } else {
        ASSERT(w->width == w->K);
        objective_logits(call, 0);
        if (o->objective == LOSS_DINO)
            target_dino(call);
        else
            target_swav(call);
        objective_cross_entropy(call, result);
    }
    if (o->coding_rate != 0) {
        const struct coding_rate rate = {.m = (size_t)2 * w->b,
                                         .p = w->D,
                                         .weight = o->coding_rate,
                                         .epsilon = o->coding_rate_epsilon,
                                         .factor = w->factor,
                                         .partial = w->partial};
        ASSERT(w->factor);
        result->coding_rate = coding_rate_add(&rate, w->student, call->dz);
        result->loss -= (double)o->coding_rate * result->coding_rate;
    }
    if (o->normalise)
        unit_rows_backward(w->student, w->norm, w->rows, w->D, call->dz);
}

void loss_decoupled(const struct loss_options *o, const real *z_student, const real *z_teacher, const real *prototypes,
                    const uint32_t *order, const real *center, struct loss_workspace *w, struct loss_result *result,
                    real *dz)
{
    struct loss_call call = {.o = o,
                             .prototypes = prototypes,
                             .prototypes_teacher = prototypes,
                             .order = o->objective == LOSS_CARP ? order : NULL,
                             .center = center,
                             .w = w,
                             .dz = dz};
    run(&call, z_student, z_teacher, result);
}

void loss_joint(const struct loss_options *o, const real *z_student, const real *z_teacher, const real *prototypes,
                const uint32_t *order, const real *center, const struct loss_joint *joint, struct loss_workspace *w,
                struct loss_result *result, real *dz)
{
    struct loss_call call = {.o = o,
                             .prototypes = prototypes,
                             .prototypes_teacher = joint->prototypes_teacher,
                             .order = o->objective == LOSS_CARP ? order : NULL,
                             .center = center,
                             .d_prototypes = joint->own ? NULL : joint->d_prototypes,
                             .w = w,
                             .dz = dz};
    run(&call, z_student, z_teacher, result);
    call.d_prototypes = joint->d_prototypes;
    if (joint->own)
        result->prototypes = prototype_loss(&call);
    if (joint->koleo != 0) {
        result->koleo = koleo_add(&call, joint);
        result->loss += (double)joint->koleo * result->koleo;
    }
}

void loss_center_contribution(const struct loss_workspace *w, real *out)
{
    memcpy(out, w->center, w->K * sizeof(real));
}
