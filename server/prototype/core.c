/* The core: its life and dispatch. Beside it: core_check.c, what is checked before a message counts; core_step.c, what
 * statistics become; core_stream.c, stream mode; core_publish.c and core_reply.c, what is said. */
#include "server/prototype/core.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "common/log.h"
#include "common/version.h"
#include "server/prototype/core_publish.h"
#include "server/prototype/core_reply.h"
#include "server/prototype/core_state.h"
#include "server/prototype/core_step.h"
#include "server/prototype/core_stream.h"

enum { STREAM_RATE_MS = 1000 }; /* the timer of a stream is quicker than rates should be */

/* ---- the tree of slots: nodes are heap-allocated struct stats_rows ---- */

static void *add_rows(void *left, void *right, void *context)
{
    struct prototype_core *c = context;
    if (stats_rows_add(left, right) != 0)
        c->out_of_memory = true;
    prototype_core_drop_rows(right, NULL);
    return left;
}

/* ---- life ---- */

static uint64_t total_steps_of(const struct prototype_core_options *o)
{
    const struct run_config *config = o->config;
    if (config->run.mode == MODE_STREAM)
        return 0;
    return config->run.steps > 0 ? (uint64_t)config->run.steps : o->facts.total_steps;
}

static int start_mixture(struct prototype_core *c, struct mixture *resumed)
{
    struct mixture_options options = mixture_options_of(&c->config);
    c->mixture = resumed;
    int rc = 0;
    if (resumed == NULL)
        rc = c->initial ? mixture_clone(c->initial, &c->mixture) : mixture_new(&options, &c->mixture);
    if (rc != 0)
        return rc;
    if (resumed == NULL && c->initial == NULL)
        mixture_start(c->mixture, (uint64_t)c->config.run.seed);
    c->mixture->view->beta = prototype_core_beta(c, prototype_core_version(c));
    c->saved_version = resumed != NULL ? prototype_core_version(c) : UINT64_MAX;
    c->checkpoint_due = false;
    return 0;
}

int prototype_core_new(const struct prototype_core_options *o, struct prototype_core **out, struct error *e)
{
    struct prototype_core *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c == NULL)
        return error_set(e, ERR_MEMORY, "out of memory");
    c->config = *o->config;
    c->config_hash = run_config_hash(o->config);
    c->generation = o->generation;
    c->total_steps = total_steps_of(o);
    c->provenance = o->facts.provenance;
    c->initial = o->initial;
    struct reduce_ops ops = {.add = add_rows, .drop = prototype_core_drop_rows, .context = c};
    int rc = start_mixture(c, o->resumed);
    if (rc == 0)
        rc = reduce_new((uint32_t)o->config->run.slots, ops, &c->reduce);
    if (rc == 0)
        rc = mixture_view_new(c->mixture->options.K, c->mixture->options.D, c->mixture->options.covariance,
                              &c->previous);
    if (rc == 0 && o->config->run.mode == MODE_STREAM)
        rc = stream_new(o->config, o->facts.ledger, &c->stream);
    if (rc != 0) {
        if (o->resumed != NULL)
            c->mixture = NULL; /* stays the caller's */
        prototype_core_free(&c);
        struct mixture_options options = mixture_options_of(o->config);
        return rc == ERR_MEMORY ? mixture_no_memory(&options, e)
                                : error_set(e, rc, "mixture of %u components: %s", options.K, error_name(rc));
    }
    *out = c;
    return 0;
}

void prototype_core_free(struct prototype_core **out)
{
    struct prototype_core *c = *out;
    if (c == NULL)
        return;
    reduce_free(&c->reduce);
    stream_free(&c->stream);
    mixture_free(&c->mixture);
    mixture_view_free(&c->previous);
    msg_fini(&c->snapshot);
    msg_fini(&c->previous_snapshot);
    free(c);
    *out = NULL;
}

/* Without a publication: who follows the mixture gets a snapshot after the restart. What fails here is not lost, its
 * senders keep it. */
static void fold_rest(struct prototype_core *c)
{
    if (c->stream == NULL || c->stream->pending == 0)
        return;
    if (mixture_em_step(c->mixture, &c->stream->sum, prototype_core_beta(c, prototype_core_version(c) + 1)) == 0) {
        stream_folded(c->stream);
        msg_fini(&c->snapshot); /* of the version before */
        memset(&c->snapshot, 0, sizeof c->snapshot);
        c->has_previous = false;
    } else {
        log_error("event=version_failed step=%" PRIu64 " reason=memory", prototype_core_version(c));
    }
}

void prototype_core_stop(struct prototype_core *c)
{
    c->stopping = true;
    fold_rest(c);
    if (prototype_core_version(c) > 0 && c->saved_version != prototype_core_version(c))
        c->checkpoint_due = true;
}

static void stop_when_drained(struct prototype_core *c, uint64_t now_ms)
{
    bool drained = c->workers.count == 0 || c->stream != NULL; /* nobody's step waits for a stream */
    if (c->drain_until_ms != 0 && !c->stopping && (drained || now_ms >= c->drain_until_ms))
        prototype_core_stop(c);
}

void prototype_core_drain(struct prototype_core *c, uint64_t now_ms)
{
    c->drain_until_ms = now_ms + PROTOTYPE_DRAIN_MS;
    stop_when_drained(c, now_ms);
}

bool prototype_core_stopped(const struct prototype_core *c)
{
    return c->stopping;
}

static int take_snapshot(struct prototype_core *c, struct mixture **snapshot, struct ledger **ledger)
{
    int rc = mixture_snapshot(c->mixture, snapshot);
    return rc == 0 && c->stream != NULL ? stream_snapshot(c->stream, ledger) : rc;
}

bool prototype_core_take_checkpoint(struct prototype_core *c, struct mixture **snapshot, struct ledger **ledger)
{
    *ledger = NULL;
    if (!c->checkpoint_due || (c->stream != NULL && !stream_may_snapshot(c->stream)))
        return false;
    if (take_snapshot(c, snapshot, ledger) != 0) {
        mixture_free(snapshot);
        log_error("event=checkpoint_failed step=%" PRIu64 " reason=memory", prototype_core_version(c));
        return false;
    }
    c->checkpoint_due = false;
    c->saved_version = prototype_core_version(c);
    return true;
}

/* ---- going back ---- */

bool prototype_core_take_rewind(struct prototype_core *c, uint64_t *step_max)
{
    bool due = c->rewind_due;
    c->rewind_due = false;
    *step_max = c->rewind_max;
    return due;
}

void prototype_core_set_initial(struct prototype_core *c, const struct mixture *initial, uint64_t fingerprint)
{
    c->initial = initial;
    c->provenance.init = fingerprint;
}

int prototype_core_rewind(struct prototype_core *c, uint64_t generation, struct mixture *resumed, struct outbox *out)
{
    ASSERT(generation > c->generation);
    struct mixture *lost = c->mixture;
    int rc = start_mixture(c, resumed);
    if (rc != 0) {
        c->mixture = lost;
        return rc;
    }
    mixture_free(&lost);
    if (resumed == NULL)
        provenance_forget(&c->provenance);
    reduce_reset(c->reduce);
    msg_fini(&c->snapshot);
    msg_fini(&c->previous_snapshot);
    memset(&c->snapshot, 0, sizeof c->snapshot);
    memset(&c->previous_snapshot, 0, sizeof c->previous_snapshot);
    c->has_previous = c->stepped = false;
    c->delta_bytes = 0;
    c->generation = generation;
    c->counters.rewinds++;
    struct msg m;
    rc = prototype_core_full_message(c, true, &m);
    return rc == 0 ? outbox_publish(out, "mixture", &m) : rc; /* tells every worker that there is a new generation */
}

static int apply_stats(struct prototype_core *c, struct worker *worker, const struct peer *from, const struct msg *m,
                       struct outbox *out)
{
    struct stats_rows *rows;
    int rc = prototype_core_take_rows(c, from, m, &rows, out);
    if (rc != 0 || rows == NULL)
        return rc;
    rc = reduce_put(c->reduce, m->slot, m->slots, rows);
    if (rc == 0 && c->out_of_memory)
        rc = ERR_MEMORY;
    if (rc == 0)
        rc = prototype_core_acknowledge(c, from, m, ACK_APPLIED, out);
    if (rc != 0)
        return rc;
    c->slots_applied += m->slots;
    if (worker != NULL)
        worker->slots_done += m->slots;
    struct stats_rows *sum = reduce_take(c->reduce);
    if (sum == NULL)
        return 0;
    rc = prototype_core_finish_step(c, sum, out);
    prototype_core_drop_rows(sum, NULL);
    return rc;
}

/* ---- messages ---- */

static int on_stats(struct prototype_core *c, struct worker *worker, const struct peer *from, const struct msg *m,
                    struct outbox *out)
{
    struct prototype_verdict v = prototype_check_stats(c, m);
    switch (v.kind) {
    case VERDICT_REFUSE:
        return prototype_core_refuse(c, from, m, v.why, v.text, out);
    case VERDICT_STALE:
        return prototype_core_acknowledge(c, from, m, ACK_STALE, out);
    case VERDICT_DUPLICATE:
        return prototype_core_acknowledge(c, from, m, ACK_DUPLICATE, out);
    case VERDICT_APPLY:
        break;
    }
    return apply_stats(c, worker, from, m, out);
}

static int on_rewind(struct prototype_core *c, const struct peer *from, const struct msg *m, struct outbox *out)
{
    struct prototype_verdict v = prototype_check_rewind(c, m);
    if (v.kind == VERDICT_REFUSE)
        return prototype_core_refuse(c, from, m, v.why, v.text, out);
    c->rewind_due = v.kind == VERDICT_APPLY;
    c->rewind_max = m->step;
    return prototype_core_ack(c, from, m, c->rewind_due ? ACK_APPLIED : ACK_STALE, out);
}

static int on_hello(struct prototype_core *c, const struct peer *from, const struct msg *m, struct outbox *out)
{
    struct prototype_verdict v = prototype_check_total_steps(c, m);
    if (v.kind == VERDICT_APPLY)
        v = prototype_check_provenance(m);
    if (v.kind == VERDICT_REFUSE)
        return prototype_core_refuse(c, from, m, v.why, v.text, out);
    provenance_take(&c->provenance, m, prototype_core_version(c));
    double told = msg_scalar(m, "total_steps", 0);
    if (c->total_steps == 0 && told > 0)
        c->total_steps = (uint64_t)told;
    const struct mixture_options *o = &c->mixture->options;
    const struct msg_scalar facts[] = {
        {"components", o->K},
        {"dimensions", o->D},
        {"covariance", o->covariance},
        {"slots", (double)c->config.run.slots},
        {"slot_size", (double)c->config.run.slot_size},
        {"rows_max", prototype_core_slot_rows(c)},
        {"sample", (double)run_config_init_embeddings(&c->config)},
        {"total_steps", (double)c->total_steps},
        {"beta", c->mixture->view->beta},
    };
    struct msg reply;
    prototype_core_reply(c, &reply, MSG_WELCOME);
    snprintf(reply.text, sizeof reply.text, DECANT_VERSION);
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        msg_add_scalar(&reply, facts[i].name, facts[i].value);
    return outbox_to_peer(out, from, &reply);
}

static int on_mixture_get(struct prototype_core *c, const struct peer *from, const struct msg *m, struct outbox *out)
{
    bool newest = m->seq == 1 || m->step == prototype_core_version(c);
    bool before = !newest && c->has_previous && m->step == c->previous->version;
    if (!newest && !before) {
        bool future = m->step > prototype_core_version(c);
        return prototype_core_refuse(c, from, m, REASON_UNKNOWN_VERSION,
                                     future ? "version does not exist yet" : "version is no longer held", out);
    }
    struct msg reply;
    int rc = prototype_core_full_message(c, newest, &reply);
    if (rc != 0)
        return rc;
    c->counters.snapshots++;
    reply.seq = m->seq;
    return outbox_to_peer(out, from, &reply);
}

static int on_ping(struct prototype_core *c, uint64_t now_ms, const struct peer *from, const struct msg *m,
                   struct outbox *out)
{
    struct msg reply;
    prototype_core_reply(c, &reply, MSG_PONG);
    reply.seq = m->seq;
    if (c->stream != NULL && m->worker != 0)
        prototype_core_on_ping_stream(c, now_ms, from, m, &reply);
    return outbox_to_peer(out, from, &reply);
}

int prototype_core_on_message(struct prototype_core *c, uint64_t now_ms, const struct peer *from, const struct msg *m,
                              struct outbox *out)
{
    struct prototype_verdict v = prototype_check_envelope(c, m);
    if (v.kind == VERDICT_REFUSE)
        return prototype_core_refuse(c, from, m, v.why, v.text, out);
    struct worker *worker = NULL;
    if (m->worker != 0) /* one for whom there is no room is served all the same */
        (void)worker_table_note(&c->workers, m, from, now_ms, &worker);
    if (c->stream != NULL)
        ledger_begin(c->stream->ledger, now_ms);
    switch (m->type) {
    case MSG_HELLO:
        return c->stream ? prototype_core_on_hello_stream(c, now_ms, from, m, out) : on_hello(c, from, m, out);
    case MSG_STATS:
        return c->stream ? prototype_core_on_contribution(c, now_ms, worker, from, m, out)
                         : on_stats(c, worker, from, m, out);
    case MSG_MIXTURE_GET:
        return on_mixture_get(c, from, m, out);
    case MSG_REWIND:
        return on_rewind(c, from, m, out);
    default: /* the envelope let nothing else through */
        ASSERT(m->type == MSG_PING);
        if (m->code == 1 && worker != NULL) /* its goodbye */
            worker_table_forget(&c->workers, worker->handle);
        stop_when_drained(c, now_ms);
        return on_ping(c, now_ms, from, m, out);
    }
}

/* Rates over the time since the last look, smoothed over about five looks. */
static void rate(struct prototype_core *c, uint64_t now_ms)
{
    if (c->timer_ms != 0 && now_ms > c->timer_ms) {
        double rate = 1000.0 * (double)(c->slots_applied - c->slots_seen) / (double)(now_ms - c->timer_ms);
        c->stats_per_s = c->rated ? 0.8 * c->stats_per_s + 0.2 * rate : rate;
        c->rated = true;
    }
    c->slots_seen = c->slots_applied;
    c->timer_ms = now_ms;
}

int prototype_core_on_timer(struct prototype_core *c, uint64_t now_ms, struct outbox *out)
{
    struct worker gone;
    while (worker_table_take_silent(&c->workers, now_ms, &gone))
        log_info("event=silent worker=%016" PRIx64 " host=%s stats=%" PRIu64, gone.id, gone.host, gone.slots_done);
    stop_when_drained(c, now_ms);
    if (c->stream == NULL || now_ms >= c->timer_ms + STREAM_RATE_MS)
        rate(c, now_ms);
    return c->stream != NULL && !c->stopping ? prototype_core_advance_stream(c, now_ms, out) : 0;
}

/* ---- what others may see ---- */

const struct mixture *prototype_core_mixture(const struct prototype_core *c)
{
    return c->mixture;
}

const struct prototype_counters *prototype_core_counters(const struct prototype_core *c)
{
    return &c->counters;
}

const struct prototype_step *prototype_core_step(const struct prototype_core *c)
{
    return &c->step;
}

const struct worker_table *prototype_core_workers(const struct prototype_core *c)
{
    return &c->workers;
}

const struct provenance *prototype_core_provenance(const struct prototype_core *c)
{
    return &c->provenance;
}

uint64_t prototype_core_total_steps(const struct prototype_core *c)
{
    return c->total_steps;
}

uint64_t prototype_core_config(const struct prototype_core *c)
{
    return c->config_hash;
}

double prototype_core_stats_per_s(const struct prototype_core *c)
{
    return c->stats_per_s;
}

const struct ledger *prototype_core_ledger(const struct prototype_core *c)
{
    return c->stream ? c->stream->ledger : NULL;
}

uint64_t prototype_core_generation(const struct prototype_core *c)
{
    return c->generation;
}
