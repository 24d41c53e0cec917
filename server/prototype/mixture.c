/* The online EM update in double. Kernels take pointers and dims; mixture_em_step holds the order of the steps. */
#include "server/prototype/mixture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "common/rng.h"
#include "common/kernels.h"
#include "proto/covariance.h"
#include "server/prototype/full.h"
#include "server/prototype/mixture_place.h"
#include "server/prototype/mixture_reseed.h"
#include "server/prototype/mixture_rows.h"
#include "server/prototype/prices.h"
#include "server/prototype/ranks.h"
#include "server/prototype/split.h"
#include "server/prototype/tied.h"
#include "server/prototype/vmf.h"

struct mixture_options mixture_options_of(const struct run_config *c)
{
    return (struct mixture_options){
        .K = (uint32_t)c->mixture.components,
        .D = (uint32_t)c->mixture.dimensions,
        .covariance = c->mixture.covariance,
        .prior = c->mixture.prior,
        .forgetting = c->mixture.forgetting,
        .form = c->mixture.forgetting_form,
        .variance_floor = c->mixture.variance_floor,
        .initial_mass = c->mixture.initial_mass,
        .usage_momentum = c->mixture.usage_momentum,
        .reseed_usage = c->mixture.reseed_usage,
        .reseed_distance = c->mixture.reseed_distance,
        .reseed_max = run_config_reseed_max(c),
        .reseed_choice = c->mixture.reseed_choice,
        .merge_distance = c->mixture.merge_distance,
        .balance = c->mixture.balance,
        .balance_clip = c->mixture.balance_clip,
        .seeding = {.N = (uint32_t)run_config_init_embeddings(c),
                    .rounds = run_config_init_rounds(c),
                    .seed = (uint64_t)c->run.seed},
        .balance_power = c->mixture.balance_power,
    };
}

double mixture_beta(const struct run_config *c, uint64_t version, uint64_t total_steps)
{
    double b0 = c->mixture.beta_start, b1 = c->mixture.beta_end;
    if (version == 0)
        return b0;
    double progress = (double)version / (c->mixture.beta_fraction * (double)total_steps);
    return b0 * pow(b1 / b0, progress < 1 ? progress : 1);
}

/* ---- memory ---- */

static size_t square_width(const struct mixture *m)
{
    return covariance_square_width(m->options.covariance, m->options.D);
}

/* Of all components. */
static size_t square_count(const struct mixture *m)
{
    return m->options.K * square_width(m) + covariance_shared_width(m->options.covariance, m->options.D);
}

static bool is_tied(const struct mixture *m)
{
    return m->options.covariance == COVARIANCE_TIED;
}

static int allocate_state(struct mixture *m)
{
    size_t K = m->options.K, rows = K * m->options.D, squares = square_count(m);
    m->mass = calloc(K, sizeof *m->mass);
    m->s1 = calloc(rows, sizeof *m->s1);
    m->s2 = squares > 0 ? calloc(squares, sizeof *m->s2) : NULL;
    m->usage = calloc(K, sizeof *m->usage);
    m->price = calloc(K, sizeof *m->price);
    m->last_assigned = calloc(K, sizeof *m->last_assigned);
    m->updated_step = calloc(K, sizeof *m->updated_step);
    bool ok =
        m->mass && m->s1 && (m->s2 || squares == 0) && m->usage && m->price && m->last_assigned && m->updated_step;
    return ok ? mixture_view_new(m->options.K, m->options.D, m->options.covariance, &m->view) : ERR_MEMORY;
}

static int allocate_scratch(struct mixture *m)
{
    size_t K = m->options.K, R = m->options.reseed_max;
    m->quadratic = calloc(K, sizeof *m->quadratic);
    m->changed = calloc(K, sizeof *m->changed);
    m->reseeds = calloc(R, sizeof *m->reseeds);
    m->candidates = calloc(R, sizeof *m->candidates);
    size_t matrix = m->options.covariance == COVARIANCE_FULL || is_tied(m) ? m->options.D : 1;
    m->scratch = calloc(matrix * m->options.D, sizeof *m->scratch);
    bool merges = m->options.merge_distance > 0;
    m->looked = merges ? calloc((SPLIT_LOOKED + 1) * (size_t)m->options.D, sizeof *m->looked) : NULL;
    if (merges && m->looked == NULL)
        return ERR_MEMORY;
    if (m->options.balance > 0 && m->options.balance_power > 0 &&
        ranks_new(m->options.K, m->options.balance_power, &m->ranks) != 0)
        return ERR_MEMORY;
    return m->quadratic && m->changed && m->reseeds && m->candidates && m->scratch ? 0 : ERR_MEMORY;
}

int mixture_new(const struct mixture_options *o, struct mixture **out)
{
    ASSERT(o->K >= 1 && o->D >= 1 && o->reseed_max >= 1);
    struct mixture *m = calloc(1, sizeof *m);
    *out = NULL;
    if (m == NULL)
        return ERR_MEMORY;
    m->options = *o;
    m->fresh_length = o->covariance == COVARIANCE_VMF ? vmf_resultant(o->D, o->D) : 1;
    int rc = allocate_state(m);
    if (rc == 0)
        rc = allocate_scratch(m);
    if (rc == 0 && o->seeding.N > 0)
        rc = seeding_new(&o->seeding, o->K, o->D, &m->seeding);
    if (rc != 0)
        mixture_free(&m);
    *out = m;
    return rc;
}

void mixture_free(struct mixture **out)
{
    struct mixture *m = *out;
    if (m == NULL)
        return;
    free(m->mass);
    free(m->s1);
    free(m->s2);
    free(m->usage);
    free(m->price);
    free(m->last_assigned);
    free(m->updated_step);
    free(m->quadratic);
    free(m->changed);
    free(m->reseeds);
    free(m->candidates);
    free(m->scratch);
    free(m->looked);
    seeding_free(&m->seeding);
    ranks_free(&m->ranks);
    mixture_view_free(&m->view);
    free(m);
    *out = NULL;
}

/* ---- M-step (8) ---- */

/* What all components share, when there is such a thing. */
static void maximise_shared(struct mixture *m)
{
    if (is_tied(m))
        shared_whitening(m->s2, mixture_total_mass(m), m->options.variance_floor, m->options.D, m->scratch,
                         m->view->variance);
}

static void maximise_row(struct mixture *m, uint32_t k)
{
    size_t V = covariance_width(m->options.covariance, m->options.D);
    m->quadratic[k] =
        mixture_row(m, k, m->scratch, m->view->mean + (size_t)k * m->options.D, m->view->variance + k * V);
}

/* pi_k and log_const_k. With the uniform prior pi is constant; N_k / sum N moves every row as soon as one moves. */
static void refresh_weights(struct mixture *m)
{
    uint32_t K = m->options.K;
    double total = mixture_total_mass(m);
    for (uint32_t k = 0; k < K; k++) {
        double pi = m->options.prior == PRIOR_COUNT ? m->mass[k] / total : 1.0 / K;
        m->view->weight[k] = (float)pi;
        m->view->log_const[k] = (float)(log(pi) - m->quadratic[k]);
    }
}

static void refresh_log_const(struct mixture *m, uint32_t k)
{
    m->view->log_const[k] = (float)(-log((double)m->options.K) - m->quadratic[k]);
}

/* M-step on the rows that this version touched or re-seeded. */
static void maximise_updated(struct mixture *m, uint32_t version)
{
    bool uniform = m->options.prior == PRIOR_UNIFORM;
    maximise_shared(m);
    for (uint32_t k = 0; k < m->options.K; k++) {
        if (m->updated_step[k] != version)
            continue;
        maximise_row(m, k);
        if (uniform)
            refresh_log_const(m, k);
    }
    if (!uniform)
        refresh_weights(m);
}

static void publish_prices(struct mixture *m)
{
    m->view->priced = m->options.balance > 0;
    for (uint32_t k = 0; k < m->options.K; k++)
        m->view->price[k] = (float)m->price[k];
}

static void change_all(struct mixture *m)
{
    m->changed_count = m->options.K;
    for (uint32_t k = 0; k < m->options.K; k++)
        m->changed[k] = k;
}

void mixture_restore(struct mixture *m, uint64_t version)
{
    m->view->version = version;
    m->view->beta = 1;
    m->reseed_count = 0;
    m->split.made = false;
    m->seeded = 0;
    change_all(m);
    maximise_shared(m);
    for (uint32_t k = 0; k < m->options.K; k++)
        maximise_row(m, k);
    refresh_weights(m);
    publish_prices(m);
}

/* ---- copies ---- */

/* All but the view; out is new. */
static int copy_state(const struct mixture *m, struct mixture **out)
{
    int rc = mixture_new(&m->options, out);
    if (rc != 0)
        return rc;
    struct mixture *c = *out;
    size_t K = m->options.K, rows = K * m->options.D;
    memcpy(c->mass, m->mass, K * sizeof *c->mass);
    memcpy(c->s1, m->s1, rows * sizeof *c->s1);
    if (m->s2)
        memcpy(c->s2, m->s2, square_count(m) * sizeof *c->s2);
    memcpy(c->usage, m->usage, K * sizeof *c->usage);
    memcpy(c->price, m->price, K * sizeof *c->price);
    memcpy(c->last_assigned, m->last_assigned, K * sizeof *c->last_assigned);
    memcpy(c->updated_step, m->updated_step, K * sizeof *c->updated_step);
    memcpy(c->quadratic, m->quadratic, K * sizeof *c->quadratic);
    memcpy(c->changed, m->changed, m->changed_count * sizeof *c->changed);
    memcpy(c->reseeds, m->reseeds, m->reseed_count * sizeof *c->reseeds);
    c->changed_count = m->changed_count;
    c->reseed_count = m->reseed_count;
    c->reseeded = m->reseeded;
    c->split = m->split;
    c->splits = m->splits;
    c->seeded = m->seeded;
    if (m->seeding)
        seeding_copy(c->seeding, m->seeding);
    else
        seeding_free(&c->seeding);
    return 0;
}

/* Of a view, all but means and variances. */
static void copy_figures(struct mixture_view *to, const struct mixture_view *from)
{
    to->version = from->version;
    to->beta = from->beta;
    memcpy(to->weight, from->weight, from->K * sizeof *to->weight);
    memcpy(to->log_const, from->log_const, from->K * sizeof *to->log_const);
    to->priced = from->priced;
    memcpy(to->price, from->price, from->K * sizeof *to->price);
}

int mixture_no_memory(const struct mixture_options *o, struct error *e)
{
    /* Sums in double; means and variances in float, of the newest version and of the one before. */
    double numbers = (double)o->K * (double)(o->D + covariance_width(o->covariance, o->D));
    double gib = numbers * (sizeof(double) + 2 * sizeof(float)) / (double)(1u << 30);
    return error_set(e, ERR_MEMORY,
                     "no memory for a mixture of %u components of %u dimensions, %.1f GiB: make mixture.components or "
                     "mixture.dimensions smaller",
                     o->K, o->D, gib);
}

int mixture_clone(const struct mixture *m, struct mixture **out)
{
    int rc = copy_state(m, out);
    if (rc != 0)
        return rc;
    struct mixture *c = *out;
    if (m->view->mean != NULL)
        return mixture_view_copy(c->view, m->view);
    copy_figures(c->view, m->view);
    for (uint32_t k = 0; k < c->options.K; k++)
        maximise_row(c, k);
    return 0;
}

/* A covariance matrix takes a factorisation to make again, and such mixtures are bounded (proto/run_config_check.c). */
static bool rows_are_cheap(const struct mixture *m)
{
    return m->options.covariance != COVARIANCE_FULL && !is_tied(m);
}

int mixture_snapshot(const struct mixture *m, struct mixture **out)
{
    if (!rows_are_cheap(m))
        return mixture_clone(m, out);
    int rc = copy_state(m, out);
    if (rc != 0)
        return rc;
    struct mixture_view *v = (*out)->view;
    copy_figures(v, m->view);
    free(v->mean);
    free(v->variance);
    v->mean = v->variance = NULL;
    return 0;
}

/* ---- start (1) ---- */

static void reset_history(struct mixture *m)
{
    memset(m->last_assigned, 0, m->options.K * sizeof *m->last_assigned);
    memset(m->updated_step, 0, m->options.K * sizeof *m->updated_step);
    m->reseeded = 0;
    m->splits = 0;
}

/* A uniformly random direction, the stream's name being the component. */
static void random_unit(uint64_t seed, uint32_t k, double *out, size_t D)
{
    struct rng r;
    rng_open(&r, seed, RNG_MIXTURE, k, 0, 0);
    double squares = 0;
    for (size_t d = 0; d < D; d++) {
        out[d] = rng_normal(&r);
        squares += out[d] * out[d];
    }
    double norm = sqrt(squares) > 1e-12 ? sqrt(squares) : 1e-12;
    for (size_t d = 0; d < D; d++)
        out[d] /= norm;
}

void mixture_start(struct mixture *m, uint64_t seed)
{
    for (uint32_t k = 0; k < m->options.K; k++) {
        random_unit(seed, k, m->scratch, m->options.D);
        mixture_place(m, k, m->scratch);
    }
    mixture_place_shared(m);
    reset_history(m);
    mixture_restore(m, 0);
}

void mixture_start_from(struct mixture *m, const double *means)
{
    for (uint32_t k = 0; k < m->options.K; k++)
        mixture_place(m, k, means + (size_t)k * m->options.D);
    mixture_place_shared(m);
    reset_history(m);
    mixture_restore(m, 0);
}

/* ---- one step ---- */

/* S = lambda S + s */
STATIC_KERNEL(void, forget_and_add, (double *restrict S, double lambda, const float *restrict s, size_t D),
              (S, lambda, s, D))
{
    for (size_t d = 0; d < D; d++)
        S[d] = lambda * S[d] + (double)s[d];
}

/* S = lambda S + (1 - lambda) s. A kernel of its own: with a factor of 1 the one above could round otherwise. */
STATIC_KERNEL(void, blend, (double *restrict S, double lambda, const float *restrict s, size_t D), (S, lambda, s, D))
{
    for (size_t d = 0; d < D; d++)
        S[d] = lambda * S[d] + (1 - lambda) * (double)s[d];
}

/* (5) Touched components only. */
static void fold_rows(struct mixture *m, const struct stats_rows *s, uint32_t version)
{
    size_t D = m->options.D, S = square_width(m);
    bool convex = m->options.form == FORGETTING_CONVEX;
    if (is_tied(m))
        tied_fold(m->s2, m->mass, m->s1, m->options.forgetting, s, m->scratch);
    void (*const fold)(double *restrict, double, const float *restrict, size_t) = convex ? blend : forget_and_add;
    for (uint32_t r = 0; r < s->R; r++) {
        uint32_t k = s->index[r];
        double n = (double)s->n[r], lambda = pow(m->options.forgetting, convex ? n / s->count : n);
        m->mass[k] = lambda * m->mass[k] + (convex ? 1 - lambda : 1) * n;
        fold(m->s1 + k * D, lambda, s->s1 + r * D, D);
        if (S > 0)
            fold(m->s2 + k * S, lambda, s->s2 + r * S, S);
        m->updated_step[k] = version;
    }
}

/* (6) u_k = r u_k + (1 - r) n_k / sum n, for all K. */
static void fold_usage(struct mixture *m, const struct stats_rows *s)
{
    double total = 0, r = m->options.usage_momentum;
    for (uint32_t i = 0; i < s->R; i++)
        total += (double)s->n[i];
    if (total <= 0)
        return;
    for (uint32_t k = 0; k < m->options.K; k++)
        m->usage[k] *= r;
    for (uint32_t i = 0; i < s->R; i++)
        m->usage[s->index[i]] += (1 - r) * (double)s->n[i] / total;
}

static void list_changed(struct mixture *m, uint32_t version)
{
    if (m->options.prior == PRIOR_COUNT) {
        change_all(m);
        return;
    }
    m->changed_count = 0;
    for (uint32_t k = 0; k < m->options.K; k++)
        if (m->updated_step[k] == version)
            m->changed[m->changed_count++] = k;
}

/* ---- k-means++ ---- */

/* Components 0, 1, ... become fresh ones around the seeds. Where there are fewer seeds, since embeddings are equal, the
 * other components go on as they are. */
static void place_seeds(struct mixture *m)
{
    const struct seeding *s = m->seeding;
    uint32_t version = (uint32_t)m->view->version, count = s->chosen;
    bool all = count == m->options.K;
    for (uint32_t k = 0; k < count; k++) {
        const float *h = s->rows + (size_t)s->seeds[k] * s->D;
        if (all)
            mixture_place_at(m, k, h, version);
        else
            mixture_move(m, k, h, version);
        m->last_assigned[k] = 0; /* what was assigned to it was assigned to another one */
    }
    if (all)
        mixture_place_shared(m);
    mixture_restore(m, version);
    m->seeded = count;
}

/* After the fold, so that the step's statistics count for components that are not placed. */
static void advance_seeding(struct mixture *m, const struct stats_rows *s)
{
    double beta = m->view->beta;
    seeding_gather(m->seeding, s->sample, s->S);
    if (!seeding_choose(m->seeding))
        return;
    place_seeds(m);
    m->view->beta = beta;
    seeding_free(&m->seeding);
}

int mixture_em_step(struct mixture *m, const struct stats_rows *s, double beta)
{
    ASSERT(s->K == m->options.K && s->D == m->options.D);
    float *distance = malloc((s->V + 1) * sizeof *distance);
    if (distance == NULL)
        return ERR_MEMORY;
    if (s->V > 0)
        memcpy(distance, s->novel_distance, s->V * sizeof *distance);
    uint32_t version = (uint32_t)(m->view->version + 1);
    fold_rows(m, s, version);
    fold_usage(m, s);
    for (uint32_t i = 0; i < s->A; i++)
        m->last_assigned[s->assigned[i]] = version;
    mixture_reseed(m, s, distance, version);
    if (m->options.merge_distance > 0)
        split_nearest(m, version);
    if (m->options.balance > 0)
        prices_move(m->price, m->usage, m->ranks ? ranks_wanted(m->ranks, m->usage) : NULL, m->options.K,
                    m->options.balance, m->options.balance_clip);
    list_changed(m, version);
    maximise_updated(m, version);
    publish_prices(m);
    m->view->version = version;
    m->view->beta = beta;
    m->seeded = 0;
    if (m->seeding != NULL)
        advance_seeding(m, s);
    free(distance);
    return 0;
}

/* ---- figures ---- */

double mixture_usage_perplexity(const double *usage, uint32_t K)
{
    double total = 0, entropy = 0;
    for (uint32_t k = 0; k < K; k++)
        total += usage[k];
    for (uint32_t k = 0; k < K; k++) {
        double p = usage[k] / total;
        if (p > 0)
            entropy -= p * log(p);
    }
    return exp(entropy);
}

double mixture_active_percent(const struct mixture *m, uint32_t window)
{
    uint64_t version = m->view->version;
    uint32_t active = 0;
    for (uint32_t k = 0; k < m->options.K; k++)
        if (m->last_assigned[k] > 0 && m->last_assigned[k] + (uint64_t)window > version)
            active++;
    return 100.0 * active / m->options.K;
}
