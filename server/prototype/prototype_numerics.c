/* Two slots' responsibilities become statistics, are added, and move a mixture whose least used components are seeded
 * anew, a few times: what a step of the server goes through. */
#include "server/prototype/prototype_numerics.h"

#include <xxhash.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/provenance.h"
#include "server/prototype/mixture.h"

enum { SEED = 1, STEPS = 4, K = 24, D = 37, ROWS = 13, NOVEL = 2 };

static const struct mixture_options options = {.K = K,
                                               .D = D,
                                               .forgetting = 0.99,
                                               .variance_floor = 1e-3,
                                               .initial_mass = 1,
                                               .usage_momentum = 0.9,
                                               .reseed_usage = 0.9,
                                               .reseed_distance = 0.05,
                                               .reseed_max = 2};

/* Every embedding belongs to two neighbouring components; the last few are nobody's first. */
static int slot_statistics(enum covariance c, uint64_t step, uint64_t slot, struct stats_rows *out)
{
    float h[ROWS * D], gamma[2 * ROWS];
    uint32_t start[ROWS + 1], index[2 * ROWS];
    struct rng r;
    rng_open(&r, SEED, RNG_JITTER, step, slot, 0);
    for (size_t i = 0; i < ROWS * D; i++)
        h[i] = 2 * rng_uniform(&r) - 1;
    vec_normalise_rows(h, ROWS, D, NULL);
    for (uint32_t i = 0; i <= ROWS; i++)
        start[i] = 2 * i;
    for (uint32_t i = 0; i < ROWS; i++) {
        index[2 * i] = i;
        index[2 * i + 1] = i + 1;
        gamma[2 * i] = rng_uniform(&r);
        gamma[2 * i + 1] = 1 - gamma[2 * i];
    }
    const struct responsibilities g = {.N = ROWS, .start = start, .index = index, .gamma = gamma};
    float distance[NOVEL] = {0.9f, 0.8f};
    const struct stats_extra extra = {.V = NOVEL, .novel = h, .novel_distance = distance, .loglik = -1};
    enum reason why = 0;
    struct msg m;
    msg_init(&m, MSG_STATS, "");
    int rc = stats_encode_as(STATS_FACTORED, h, &g, K, D, c, &extra, &m);
    if (rc == 0)
        rc = stats_decode(&m, K, D, c, ROWS, out, &why, NULL);
    msg_fini(&m);
    return rc;
}

static int fold(struct mixture *m, uint64_t step)
{
    struct stats_rows sum, next;
    stats_rows_init(&sum);
    stats_rows_init(&next);
    int rc = slot_statistics(m->options.covariance, step, 0, &sum);
    if (rc == 0)
        rc = slot_statistics(m->options.covariance, step, 1, &next);
    if (rc == 0)
        rc = stats_rows_add(&sum, &next);
    if (rc == 0)
        rc = mixture_em_step(m, &sum, 0.5);
    stats_rows_fini(&sum);
    stats_rows_fini(&next);
    return rc;
}

static void hash_mixture(XXH64_state_t *h, const struct mixture *m)
{
    size_t rows = (size_t)K * D;
    XXH64_update(h, m->mass, K * sizeof *m->mass);
    XXH64_update(h, m->s1, rows * sizeof *m->s1);
    XXH64_update(h, m->s2, rows * sizeof *m->s2);
    XXH64_update(h, m->usage, K * sizeof *m->usage);
    XXH64_update(h, m->view->mean, rows * sizeof *m->view->mean);
    XXH64_update(h, m->view->log_const, K * sizeof *m->view->log_const);
}

static int run(enum covariance covariance, enum weight_prior prior, XXH64_state_t *h)
{
    struct mixture_options o = options;
    struct mixture *m = NULL;
    o.covariance = covariance;
    o.prior = prior;
    int rc = mixture_new(&o, &m);
    if (rc != 0)
        return rc;
    mixture_start(m, SEED);
    for (uint64_t t = 0; rc == 0 && t < STEPS; t++)
        rc = fold(m, t);
    hash_mixture(h, m);
    mixture_free(&m);
    return rc;
}

int prototype_numerics(enum covariance c, uint64_t *out)
{
    XXH64_state_t *state = XXH64_createState();
    if (state == NULL)
        return ERR_MEMORY;
    XXH64_reset(state, SEED);
    int rc = run(COVARIANCE_DIAGONAL, PRIOR_UNIFORM, state);
    if (rc == 0)
        rc = run(COVARIANCE_SPHERICAL, PRIOR_COUNT, state);
    if (rc == 0 && (c == COVARIANCE_FULL || c == COVARIANCE_TIED))
        rc = run(c, PRIOR_UNIFORM, state);
    if (rc == 0)
        *out = fingerprint_of(XXH64_digest(state));
    XXH64_freeState(state);
    return rc == ERR_FORMAT ? ERR_STATE : rc;
}
