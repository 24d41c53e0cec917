/* Taking the copy, and the rule of what is worth writing. */
#include "server/prototype/mirror_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "proto/covariance.h"
#include "server/prototype/prices.h"

int mirror_state_init(struct mirror_state *s, uint32_t K, uint32_t D, enum covariance covariance)
{
    memset(s, 0, sizeof *s);
    s->K = K;
    s->D = D;
    s->covariance = covariance;
    s->refresh_max = MIRROR_REFRESH_MAX;
    size_t V = covariance_width(covariance, D), rows = MIRROR_MOVED_FLOATS / (D + V) + 1;
    s->moved_max = rows < K ? (uint32_t)rows : K;
    s->rows = malloc(K * sizeof *s->rows);
    s->mean = malloc((size_t)s->moved_max * D * sizeof *s->mean);
    s->variance = malloc((s->moved_max * V + covariance_shared_width(covariance, D)) * sizeof *s->variance);
    if (s->rows && s->mean && s->variance)
        return 0;
    mirror_state_fini(s);
    return ERR_MEMORY;
}

void mirror_state_fini(struct mirror_state *s)
{
    free(s->rows);
    free(s->mean);
    free(s->variance);
    memset(s, 0, sizeof *s);
}

static bool usage_differs(double usage, double known, uint32_t K)
{
    double scale = known > 0.02 / K ? known : 0.02 / K;
    return fabs(usage - known) > 0.05 * scale;
}

static void take_figures(struct mirror_state *s, const struct prototype_core *core, const struct diagnostics *d)
{
    const struct mixture *m = prototype_core_mixture(core);
    s->version = m->view->version;
    s->total_steps = prototype_core_total_steps(core);
    s->config = prototype_core_config(core);
    s->generation = prototype_core_generation(core);
    s->beta = m->view->beta;
    s->step = *prototype_core_step(core);
    s->reseeded = m->reseeded;
    s->merges = m->options.merge_distance > 0;
    s->splits = m->splits;
    s->priced = m->view->priced;
    s->price_spread = prices_spread(m->price, s->K);
    memcpy(s->variance, m->view->variance, covariance_shared_width(s->covariance, s->D) * sizeof *s->variance);
    s->perplexity = mixture_usage_perplexity(m->usage, s->K);
    s->active = mixture_active_percent(m, prototype_core_active_window(core));
    s->stats_per_s = prototype_core_stats_per_s(core);
    worker_table_copy(&s->workers, prototype_core_workers(core));
    s->measured = d != NULL;
    if (d == NULL)
        return;
    memcpy(s->unique, d->unique, sizeof s->unique);
    s->effective_rank = d->effective_rank;
    s->diagnostics_version = d->version;
}

static void copy_vectors(struct mirror_state *s, const struct mixture *m, struct mirror_row *row)
{
    size_t D = s->D, V = covariance_width(s->covariance, D);
    row->at = s->moved++;
    memcpy(s->mean + row->at * D, m->view->mean + row->k * D, D * sizeof(float));
    memcpy(s->variance + row->at * V, m->view->variance + row->k * V, V * sizeof(float));
}

enum row_reason { ROW_SAME, ROW_USAGE, ROW_NEIGHBOUR, ROW_MOVED };

/* Why prototype k is worth writing. */
static enum row_reason row_reason(const struct mirror_state *s, const struct mixture *m, const struct diagnostics *d,
                                  const struct mirror_known *known, uint32_t k)
{
    if (s->full || !known->written || known->updated_step != m->updated_step[k])
        return ROW_MOVED;
    if (d != NULL && (known->nearest != d->nearest[k] || known->cosine != d->cosine[k]))
        return ROW_NEIGHBOUR;
    return usage_differs(m->usage[k], (double)known->usage, s->K) ? ROW_USAGE : ROW_SAME;
}

static void take_row(struct mirror_state *s, const struct mixture *m, const struct diagnostics *d, uint32_t k,
                     bool moved, double total_mass)
{
    struct mirror_row *row = &s->rows[s->count++];
    *row = (struct mirror_row){.k = k,
                               .moved = moved,
                               .updated_step = m->updated_step[k],
                               .mass = m->mass[k],
                               .usage = m->usage[k],
                               .price = m->price[k],
                               .weight_share = (float)(m->mass[k] / total_mass),
                               .nearest = d != NULL ? d->nearest[k] : 0,
                               .cosine = d != NULL ? d->cosine[k] : 0};
    if (moved)
        copy_vectors(s, m, row);
}

/* Whether a row that is worth writing has to wait for a later update. */
static bool must_wait(struct mirror_state *s, enum row_reason why, uint32_t *refreshed)
{
    if (why == ROW_USAGE)
        return (*refreshed)++ >= s->refresh_max;
    bool full = why == ROW_MOVED && s->moved == s->moved_max;
    s->waiting += full;
    return full;
}

/* Goes once around from refresh_from, and leaves there the first row that had to wait. */
static void take_rows(struct mirror_state *s, const struct mixture *m, const struct diagnostics *d,
                      const struct mirror_known *known, double total_mass)
{
    uint32_t from = s->refresh_from, refreshed = 0;
    bool waits = false;
    for (uint32_t i = 0; i < s->K; i++) {
        uint32_t k = (from + i) % s->K;
        enum row_reason why = row_reason(s, m, d, &known[k], k);
        if (why == ROW_SAME)
            continue;
        if (!must_wait(s, why, &refreshed)) {
            take_row(s, m, d, k, why == ROW_MOVED, total_mass);
            continue;
        }
        s->refresh_from = waits ? s->refresh_from : k;
        waits = true;
    }
}

void mirror_state_take(struct mirror_state *s, const struct prototype_core *core, const struct diagnostics *d,
                       const struct mirror_known *known, bool full)
{
    const struct mixture *m = prototype_core_mixture(core);
    double total_mass = 0;
    for (uint32_t k = 0; k < s->K; k++)
        total_mass += m->mass[k];
    s->full = full;
    s->count = s->moved = s->waiting = 0;
    take_figures(s, core, d);
    take_rows(s, m, d, known, total_mass);
}

void mirror_state_acknowledged(const struct mirror_state *s, struct mirror_known *known)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct mirror_row *row = &s->rows[i];
        known[row->k] = (struct mirror_known){.updated_step = row->updated_step,
                                              .usage = (float)row->usage,
                                              .nearest = row->nearest,
                                              .cosine = row->cosine,
                                              .written = true};
    }
}
