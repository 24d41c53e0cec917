/* The accepted order is what the server acknowledged; replayed on a mixture of its own it must give the same bytes. */
#include <inttypes.h>
#include <string.h>
#include "common/vecmath.h"
#include "tests/sim/stream/stream_sim.h"

enum { ROWS = 3, D_MAX = 8, STREAM = 77 };

void contribution(const struct run_config *c, uint64_t uid, uint64_t seq, struct msg *out)
{
    float h[ROWS * D_MAX], gamma[ROWS], distance[1] = {0.5f};
    uint32_t start[ROWS + 1] = {0}, index[ROWS], K = (uint32_t)c->mixture.components,
                          D = (uint32_t)c->mixture.dimensions;
    struct rng r;
    rng_open(&r, uid, RNG_JITTER, STREAM, seq, 0);
    for (uint32_t i = 0; i < ROWS * D; i++)
        h[i] = (float)rng_normal(&r);
    vec_normalise_rows(h, ROWS, D, NULL);
    for (uint32_t i = 0; i < ROWS; i++) {
        gamma[i] = 1;
        index[i] = rng_below(&r, K);
        start[i + 1] = i + 1;
    }
    struct responsibilities g = {.N = ROWS, .start = start, .index = index, .gamma = gamma};
    struct stats_extra extra = {.V = 1, .novel = h, .novel_distance = distance, .assigned = index, .loglik = -1};
    msg_init(out, MSG_STATS, c->run.name);
    int rc = stats_encode(h, &g, K, D, COVARIANCE_DIAGONAL, &extra, out);
    ASSERT(rc == 0);
}

void check_answers(struct world *w, const struct event *e, const struct outbox *out)
{
    const struct stream_client *k = &w->clients[e->seat];
    struct acceptance *a = &w->accepted;
    uint32_t answers = 0;
    for (size_t i = 0; i < out->count; i++) {
        const struct msg *m = &out->items[i].msg;
        if (out->items[i].kind != OUT_PEER || (m->type == MSG_ACK && m->code == ACK_DURABLE))
            continue;
        answers++;
        if (m->type == MSG_ERROR && m->code != REASON_FUTURE_STEP && m->code != REASON_NOT_READY &&
            m->code != REASON_STOPPING)
            world_fail(w, "a refusal that no honest client should see: %s, \"%s\"", reason_name((enum reason)m->code),
                       m->text);
        w->duplicates += m->type == MSG_ACK && m->code == ACK_DUPLICATE;
        if (m->type != MSG_ACK || m->code != ACK_APPLIED)
            continue;
        ASSERT(a->count < LOG_MAX);
        a->log[a->count++] = (struct accepted){e->job ? (uint64_t)(uintptr_t)e->job : k->uid, m->seq};
    }
    if (answers != 1)
        world_fail(w, "%s was answered %u times", msg_type_name(e->msg.type), answers);
}

void check_turn(struct world *w)
{
    uint64_t version = prototype_core_mixture(w->server.prototype.core)->view->version;
    struct acceptance *a = &w->accepted;
    if (version == a->version)
        return;
    if (version != a->version + 1 || version >= VERSIONS_MAX)
        world_fail(w, "version %" PRIu64 " follows %" PRIu64, version, a->version);
    a->version = version;
    a->folded[version % VERSIONS_MAX] = a->count;
}

void check_resumed(struct world *w, uint64_t version)
{
    w->replays += w->accepted.count > w->accepted.folded[version];
    w->accepted.version = version;
    w->accepted.count = w->accepted.folded[version];
}

void check_durable(struct world *w, const struct stream_client *k, uint64_t durable)
{
    struct ledger *l = w->server.written.present ? w->server.written.facts.ledger : NULL;
    const struct ledger_client *entry = l ? ledger_find(l, (struct ledger_id){k->name, 0}) : NULL;
    if (durable > (entry ? entry->applied : 0))
        world_fail(w, "client %" PRIu64 " hears that %" PRIu64 " are durable; on disk are %" PRIu64, k->uid, durable,
                   entry ? entry->applied : 0);
}

/* ---- the end ---- */

static void replay_version(struct world *w, struct mixture *m, uint32_t first, uint32_t last)
{
    const struct mixture_options *o = &m->options;
    struct stats_rows sum, rows;
    stats_rows_init(&sum);
    for (uint32_t i = first; i < last; i++) {
        struct msg message;
        enum reason why;
        struct error e = {0};
        contribution(&w->config, w->accepted.log[i].client, w->accepted.log[i].seq, &message);
        stats_rows_init(&rows);
        int rc = stats_decode(&message, o->K, o->D, o->covariance, ROWS, i == first ? &sum : &rows, &why, &e);
        if (rc == 0 && i > first)
            rc = stats_rows_add(&sum, &rows);
        ASSERT(rc == 0);
        msg_fini(&message);
    }
    int rc = mixture_em_step(m, &sum, w->config.mixture.beta_end);
    ASSERT(rc == 0);
    stats_rows_fini(&sum);
}

/* A snapshot has sums only: means and variances follow from these. */
static bool same_state(const struct mixture *a, const struct mixture *b)
{
    size_t K = a->options.K, KD = K * a->options.D;
    return a->view->version == b->view->version && memcmp(a->mass, b->mass, K * sizeof *a->mass) == 0 &&
           memcmp(a->s1, b->s1, KD * sizeof *a->s1) == 0 && memcmp(a->s2, b->s2, KD * sizeof *a->s2) == 0 &&
           memcmp(a->usage, b->usage, K * sizeof *a->usage) == 0;
}

static void check_mixture(struct world *w)
{
    struct mixture_options options = mixture_options_of(&w->config);
    struct mixture *m;
    int rc = mixture_new(&options, &m);
    ASSERT(rc == 0);
    mixture_start(m, (uint64_t)w->config.run.seed);
    for (uint64_t v = 1; v <= w->accepted.version; v++)
        replay_version(w, m, w->accepted.folded[v - 1], w->accepted.folded[v]);
    if (!w->server.written.present || !same_state(m, w->server.written.mixture))
        world_fail(w, "the mixture is not that of the accepted order");
    mixture_free(&m);
}

/* Each client's in order, once, and all of those that live. */
static void check_order(struct world *w)
{
    for (uint64_t uid = 1; uid <= w->uids; uid++) {
        uint64_t seq = 0;
        for (uint32_t i = 0; i < w->accepted.count; i++)
            if (w->accepted.log[i].client == uid && w->accepted.log[i].seq != ++seq)
                world_fail(w, "client %" PRIu64 ": contribution %" PRIu64 " counts where %" PRIu64 " should", uid,
                           w->accepted.log[i].seq, seq);
        for (uint32_t s = 0; s < CLIENTS; s++)
            if (w->clients[s].alive && w->clients[s].uid == uid && seq != w->clients[s].target)
                world_fail(w, "client %" PRIu64 ": %" PRIu64 " of %" PRIu64 " contributions count", uid, seq,
                           w->clients[s].target);
    }
}

void check_end(struct world *w)
{
    if (w->accepted.folded[w->accepted.version] != w->accepted.count)
        world_fail(w, "the server left with contributions in no version");
    check_order(w);
    check_mixture(w);
}
