/* The coding rate of features; see feature_rate.h. */
#include "worker/loss/feature_rate.h"

#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "worker/loss/coding_rate.h"
#include "worker/loss/unit_rows.h"
#include "worker/nn/arena.h"

struct feature_rate {
    struct arena arena;
    struct coding_rate rate;
    real *unit, *lengths; /* (rows,F), (rows) */
};

static void carve(struct feature_rate *f)
{
    struct coding_rate *r = &f->rate;
    f->unit = arena_reals(&f->arena, r->m * r->p);
    f->lengths = arena_reals(&f->arena, r->m);
    r->factor = arena_reals(&f->arena, coding_rate_factor(r->m, r->p));
    r->partial = arena_reals(&f->arena, r->m * r->p);
}

int feature_rate_new(size_t rows, size_t F, real weight, real epsilon, struct feature_rate **out)
{
    ASSERT(rows > 0 && F > 0 && epsilon > 0);
    struct feature_rate *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f)
        return ERR_MEMORY;
    f->rate = (struct coding_rate){.m = rows, .p = F, .weight = weight, .epsilon = epsilon};
    carve(f);
    if (arena_allocate(&f->arena) != 0) {
        feature_rate_free(&f);
        return ERR_MEMORY;
    }
    carve(f);
    *out = f;
    return 0;
}

void feature_rate_free(struct feature_rate **f)
{
    if (!*f)
        return;
    arena_free(&(*f)->arena);
    free(*f);
    *f = NULL;
}

double feature_rate_of(struct feature_rate *f, const real *features, real *d)
{
    const struct coding_rate *r = &f->rate;
    unit_rows(features, r->m, r->p, f->unit, f->lengths);
    memset(d, 0, r->m * r->p * sizeof *d);
    double rate = coding_rate_add(r, f->unit, d);
    unit_rows_backward(f->unit, f->lengths, r->m, r->p, d);
    return rate;
}
