/* The memory of one thread for the arithmetic of slots; see slot_internal.h. */
#include "worker/slot_internal.h"

#include <stdlib.h>

enum { NOVEL_PER_RESEED = 4 /* candidates a slot sends for each re-seed of a step: of near neighbours one is used */ };

static float *aligned_floats(size_t n)
{
    void *p = NULL;
    return posix_memalign(&p, 64, n * sizeof(float)) == 0 ? p : NULL;
}

static uint32_t novel_max(const struct slot_shared *s)
{
    const struct run_config *c = s->config;
    return c->mixture.reseed_usage > 0 ? NOVEL_PER_RESEED * run_config_reseed_max(c) : 0;
}

static int new_estep(const struct slot_shared *s, struct estep **out)
{
    const struct run_config *c = s->config;
    struct estep_options o = {
        .top = (uint32_t)c->mixture.top,
        .drop = (float)c->mixture.drop,
        .novel_max = novel_max(s),
        .novel_distance = (float)c->mixture.reseed_distance,
        .choice = c->mixture.reseed_choice,
        .covariance = c->mixture.covariance,
    };
    return estep_new(run_config_slot_rows(c), s->K, s->D, o, out);
}

static bool allocate_local(struct slot_workspace *w)
{
    const struct slot_shared *s = w->shared;
    size_t rows = (size_t)s->local * s->b;
    if (s->local == 0)
        return true;
    w->local_views = aligned_floats(rows * s->local_floats);
    w->local_grad = aligned_floats(model_manifest(s->model)->parameter_floats);
    return w->local_views && w->local_grad &&
           model_workspace_new(s->local_model, (uint32_t)rows, &w->local_workspace) == 0;
}

static bool allocate_features(struct slot_workspace *w)
{
    const struct slot_shared *s = w->shared;
    size_t rows = 2 * (size_t)s->b, F = model_feature_width(s->model);
    const struct run_config *c = s->config;
    if (c->loss.feature_rate == 0)
        return true;
    w->features = aligned_floats(rows * F);
    w->d_features = aligned_floats(rows * F);
    return w->features && w->d_features &&
           feature_rate_new(rows, F, (float)c->loss.feature_rate, (float)c->loss.coding_rate_epsilon, &w->rate) == 0;
}

static bool allocate_worker(struct slot_workspace *w)
{
    const struct slot_shared *s = w->shared;
    size_t rows = 2 * (size_t)s->b, projections = rows * s->D, prototypes = (size_t)s->K * s->D;
    w->views = aligned_floats(rows * s->image_floats);
    w->z = aligned_floats(projections + (size_t)s->local * s->b * s->D);
    w->dz = aligned_floats(projections + (size_t)s->local * s->b * s->D);
    w->h = aligned_floats(projections);
    w->samples = malloc(s->b * sizeof *w->samples);
    w->order = calloc(s->K, sizeof *w->order);
    bool ok = w->views && w->z && w->dz && w->h && w->order && w->samples;
    if (slot_learns_from_images(s))
        ok = (w->images = aligned_floats(s->b * s->image_floats)) != NULL && ok;
    for (int i = 0; ok && s->joint && i < 2; i++)
        ok = (w->prototypes[i] = aligned_floats(prototypes)) != NULL;
    return ok && (s->joint || new_estep(s, &w->estep) == 0) && loss_workspace_new(&s->loss, &w->loss) == 0 &&
           model_workspace_new(s->model, (uint32_t)rows, &w->workspace) == 0 && allocate_local(w) &&
           allocate_features(w);
}

int slot_workspace_new(const struct slot_shared *s, struct slot_workspace **out, struct error *e)
{
    struct slot_workspace *w = calloc(1, sizeof *w);
    *out = NULL;
    if (w)
        w->shared = s;
    if (w == NULL || !allocate_worker(w)) {
        slot_workspace_free(&w);
        return error_set(e, ERR_MEMORY,
                         "no memory for a slot of %u images and %u prototypes: make run.slot_size smaller", s->b, s->K);
    }
    *out = w;
    return 0;
}

void slot_workspace_free(struct slot_workspace **w)
{
    if (*w == NULL)
        return;
    model_workspace_free(&(*w)->workspace);
    model_workspace_free(&(*w)->local_workspace);
    loss_workspace_free(&(*w)->loss);
    feature_rate_free(&(*w)->rate);
    free((*w)->features);
    free((*w)->d_features);
    estep_free(&(*w)->estep);
    free((*w)->views);
    free((*w)->local_views);
    free((*w)->local_grad);
    free((*w)->z);
    free((*w)->dz);
    free((*w)->h);
    free((*w)->images);
    free((*w)->prototypes[0]);
    free((*w)->prototypes[1]);
    free((*w)->order);
    free((*w)->samples);
    free(*w);
    *w = NULL;
}
