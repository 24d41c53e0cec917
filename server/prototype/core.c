/* The core: state, dispatch, and the step. What is checked before a message counts stands in core_check.c. */
#include "server/prototype/core.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "common/log.h"
#include "common/version.h"
#include "proto/config_wire.h"
#include "proto/covariance.h"
#include "server/prototype/core_state.h"
#include "server/prototype/prices.h"

enum { STREAM_RATE_MS = 1000 }; /* the timer of a stream is quicker than rates should be */

/* Sums of slots stay finite, and so can be published, whatever was sent. */
static const double loglik_max = 1e30;

/* ---- the tree of slots: nodes are heap-allocated struct stats_rows ---- */

static void drop_rows(void *value, void *context)
{
    (void)context;
    stats_rows_fini(value);
    free(value);
}

static void *add_rows(void *left, void *right, void *context)
{
    struct prototype_core *c = context;
    if (stats_rows_add(left, right) != 0)
        c->out_of_memory = true;
    drop_rows(right, NULL);
    return left;
}

/* ---- life ---- */

static uint64_t version_of(const struct prototype_core *c)
{
    return c->mixture->view->version;
}

/* A stream has no end; run.steps only says over how many versions beta moves. */
static double beta_of(const struct prototype_core *c, uint64_t version)
{
    const struct run_config *config = &c->config;
    if (config->run.mode != MODE_STREAM)
        return mixture_beta(config, version, c->total_steps);
    return config->run.steps > 0 ? mixture_beta(config, version, (uint64_t)config->run.steps)
                                 : config->mixture.beta_end;
}

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
    c->mixture->view->beta = beta_of(c, version_of(c));
    c->saved_version = resumed != NULL ? version_of(c) : UINT64_MAX;
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
    struct reduce_ops ops = {.add = add_rows, .drop = drop_rows, .context = c};
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
        return error_set(e, rc, "mixture of %lld components: %s", (long long)o->config->mixture.components,
                         error_name(rc));
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
    if (mixture_em_step(c->mixture, &c->stream->sum, beta_of(c, version_of(c) + 1)) == 0) {
        stream_folded(c->stream);
        msg_fini(&c->snapshot); /* of the version before */
        memset(&c->snapshot, 0, sizeof c->snapshot);
        c->has_previous = false;
    } else {
        log_error("event=version_failed step=%" PRIu64 " reason=memory", version_of(c));
    }
}

void prototype_core_stop(struct prototype_core *c)
{
    c->stopping = true;
    fold_rest(c);
    if (version_of(c) > 0 && c->saved_version != version_of(c))
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
        log_error("event=checkpoint_failed step=%" PRIu64 " reason=memory", version_of(c));
        return false;
    }
    c->checkpoint_due = false;
    c->saved_version = version_of(c);
    return true;
}

/* ---- replies ---- */

static void reply_init(const struct prototype_core *c, struct msg *m, enum msg_type type)
{
    msg_init(m, type, c->config.run.name);
    m->generation = c->generation;
    m->config = c->config_hash;
    m->step = version_of(c);
}

int prototype_core_refuse(struct prototype_core *c, const struct peer *from, const struct msg *m, enum reason why,
                          const char *text, struct outbox *out)
{
    ASSERT(why > 0 && why < REASON_END);
    c->counters.refused[why]++;
    struct msg reply;
    reply_init(c, &reply, MSG_ERROR);
    reply.code = why;
    reply.step = m->step;
    reply.slot = m->slot;
    reply.slots = m->slots;
    reply.seq = m->seq;
    snprintf(reply.text, sizeof reply.text, "%.*s", (int)sizeof reply.text - 1, text);
    if (why == REASON_WRONG_CONFIG && m->type == MSG_HELLO && m->config != c->config_hash)
        (void)config_wire_add(&c->config, &reply); /* a courtesy */
    return outbox_to_peer(out, from, &reply);
}

static int reply_ack(struct prototype_core *c, const struct peer *from, const struct msg *m, enum ack_code code,
                     struct outbox *out)
{
    struct msg reply;
    reply_init(c, &reply, MSG_ACK);
    reply.code = code;
    reply.step = m->step;
    reply.slot = m->slot;
    reply.slots = m->slots;
    reply.seq = m->seq;
    return outbox_to_peer(out, from, &reply);
}

/* Of statistics. */
static int acknowledge(struct prototype_core *c, const struct peer *from, const struct msg *m, enum ack_code code,
                       struct outbox *out)
{
    uint64_t *counter[] = {&c->counters.applied, &c->counters.duplicates, &c->counters.stale};
    (*counter[code])++;
    return reply_ack(c, from, m, code, out);
}

/* ---- metrics ---- */

uint32_t prototype_core_active_window(const struct prototype_core *c)
{
    uint64_t step = (uint64_t)c->config.run.slots * run_config_slot_rows(&c->config);
    if (c->stream != NULL)
        step = (uint64_t)stream_embeddings(c->stream) + 1;
    return (uint32_t)((ACTIVE_EMBEDDINGS + step - 1) / step);
}

static int publish_metrics(struct prototype_core *c, struct msg *m, struct outbox *out)
{
    c->metrics = *m;
    c->metrics_due = true;
    return outbox_publish(out, "metrics", m);
}

bool prototype_core_take_metrics(struct prototype_core *c, struct msg *out)
{
    if (!c->metrics_due)
        return false;
    c->metrics_due = false;
    *out = c->metrics;
    return true;
}

/* In every line of metrics, so that one without says none. */
static void add_rewinds(const struct prototype_core *c, struct msg *m)
{
    if (c->counters.rewinds > 0)
        msg_add_scalar(m, "rewinds", (double)c->counters.rewinds);
}

/* Names are those of docs/REDIS.md. */
static int publish_step(struct prototype_core *c, struct outbox *out)
{
    const struct mixture *x = c->mixture;
    const struct msg_scalar figures[] = {
        {"version", (double)version_of(c)},
        {"loglik", c->step.loglik},
        {"beta", x->view->beta},
        {"usage_perplexity", mixture_usage_perplexity(x->usage, x->options.K)},
        {"reseeded", (double)x->reseeded},
        {"dropped", c->step.dropped},
        {"active", mixture_active_percent(x, prototype_core_active_window(c))},
        {"workers", (double)c->workers.count},
        {"stats_per_s", c->stats_per_s},
    };
    struct msg m;
    reply_init(c, &m, MSG_METRICS);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        msg_add_scalar(&m, figures[i].name, figures[i].value);
    if (x->options.merge_distance > 0)
        msg_add_scalar(&m, "splits", (double)x->splits);
    if (x->options.seeding.N > 0)
        msg_add_scalar(&m, "seeding", x->seeding ? 100.0 * x->seeding->chosen / x->options.K : 100);
    if (x->options.balance > 0)
        msg_add_scalar(&m, "price_spread", prices_spread(x->price, x->options.K));
    add_rewinds(c, &m);
    return publish_metrics(c, &m, out);
}

int prototype_core_on_diagnostics(struct prototype_core *c, const struct diagnostics *d, struct outbox *out)
{
    struct msg m;
    reply_init(c, &m, MSG_METRICS);
    m.step = d->version;
    msg_add_scalar(&m, "version", (double)d->version);
    for (size_t i = 0; i < DIAGNOSTICS_EPS; i++)
        msg_add_scalar(&m, diagnostics_eps_name[i], d->unique[i]);
    msg_add_scalar(&m, "active", d->active);
    msg_add_scalar(&m, "usage_perplexity", d->perplexity);
    msg_add_scalar(&m, "effective_rank", d->effective_rank);
    add_rewinds(c, &m);
    return publish_metrics(c, &m, out);
}

/* ---- publication ---- */

/* Another message with the same tensors (buffers are shared, not copied). */
static void message_share(const struct msg *from, struct msg *to)
{
    *to = *from;
    for (uint32_t i = 0; i < to->tensor_count; i++)
        buf_ref(to->tensors[i].data);
}

static int encode_view(struct prototype_core *c, const struct mixture_view *v, const uint32_t *rows, uint32_t R,
                       struct msg *m)
{
    reply_init(c, m, MSG_MIXTURE);
    int rc = mixture_encode(v, rows, R, m);
    if (rc == 0 && c->stepped)
        rc = msg_add_scalar(m, "loglik", c->step.loglik);
    return rc;
}

/* The full message of the newest version (or the one before), encoded once when first wanted. */
static int full_message(struct prototype_core *c, bool newest, struct msg *m)
{
    struct msg *cached = newest ? &c->snapshot : &c->previous_snapshot;
    if (cached->type == 0) {
        int rc = encode_view(c, newest ? c->mixture->view : c->previous, NULL, 0, cached);
        if (rc != 0)
            return rc;
    }
    message_share(cached, m);
    return 0;
}

/* Bytes of the tensors of the newest version: of all rows, or of those that changed. */
static uint64_t full_bytes(const struct mixture *x)
{
    uint64_t D = x->options.D;
    return x->options.K * 4 * (D + covariance_width(x->options.covariance, D) + 2);
}

static uint64_t delta_bytes(const struct mixture *x)
{
    return x->changed_count * (full_bytes(x) / x->options.K + 4);
}

/* Deltas of a mixture of which few rows move stay deltas: a full message would cost more than all of them. */
static bool publishes_delta(const struct prototype_core *c)
{
    const struct mixture *x = c->mixture;
    bool full_due = version_of(c) % MIXTURE_FULL_EVERY == 0 && c->delta_bytes + delta_bytes(x) >= full_bytes(x);
    return delta_bytes(x) < full_bytes(x) && !full_due;
}

static int publish_version(struct prototype_core *c, struct outbox *out)
{
    struct msg m;
    const struct mixture *x = c->mixture;
    bool delta = publishes_delta(c);
    c->delta_bytes = delta ? c->delta_bytes + delta_bytes(x) : 0;
    int rc = delta ? encode_view(c, x->view, x->changed, x->changed_count, &m) : full_message(c, true, &m);
    return rc == 0 ? outbox_publish(out, "mixture", &m) : rc;
}

/* Rows of `from` copied into `to`, so that the older view catches up without copying the mixture. */
static void copy_rows(struct mixture_view *to, const struct mixture_view *from, const uint32_t *rows, uint32_t R)
{
    size_t D = from->D, V = covariance_width(from->covariance, D);
    for (uint32_t i = 0; i < R; i++) {
        size_t k = rows[i];
        memcpy(to->mean + k * D, from->mean + k * D, D * sizeof(float));
        memcpy(to->variance + k * V, from->variance + k * V, V * sizeof(float));
        to->weight[k] = from->weight[k];
        to->log_const[k] = from->log_const[k];
    }
    memcpy(to->variance + from->K * V, from->variance + from->K * V,
           covariance_shared_width(from->covariance, D) * sizeof(float));
    to->priced = from->priced;
    memcpy(to->price, from->price, from->K * sizeof *to->price);
    to->version = from->version;
    to->beta = from->beta;
}

/* Before a fold: what is newest becomes the version before. */
static void keep_previous(struct prototype_core *c)
{
    const struct mixture *x = c->mixture;
    copy_rows(c->previous, x->view, x->changed, x->changed_count);
    c->has_previous = true;
    msg_fini(&c->previous_snapshot);
    c->previous_snapshot = c->snapshot;
    memset(&c->snapshot, 0, sizeof c->snapshot);
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
    rc = full_message(c, true, &m);
    return rc == 0 ? outbox_publish(out, "mixture", &m) : rc; /* tells every worker that there is a new generation */
}

/* ---- a step ---- */

static bool is_checkpoint_due(const struct prototype_core *c)
{
    int64_t every = c->config.run.checkpoint_every;
    return version_of(c) == c->total_steps || (every > 0 && version_of(c) % (uint64_t)every == 0);
}

/* The sum becomes the next version; it stays the caller's. */
static int finish_step(struct prototype_core *c, const struct stats_rows *sum, struct outbox *out)
{
    keep_previous(c);
    int rc = mixture_em_step(c->mixture, sum, beta_of(c, version_of(c) + 1));
    if (c->mixture->seeded > 0)
        log_info("event=seeded step=%" PRIu64 " components=%u of=%u embeddings=%u", version_of(c), c->mixture->seeded,
                 c->mixture->options.K, c->mixture->options.seeding.N);
    c->stepped = true;
    c->checkpoint_due = c->checkpoint_due || is_checkpoint_due(c);
    c->step = (struct prototype_step){sum->loglik / sum->count, sum->dropped / sum->count, sum->count};
    if (rc == 0)
        rc = publish_version(c, out);
    if (rc == 0 && version_of(c) % (uint64_t)c->config.run.log_every == 0)
        rc = publish_step(c, out);
    return rc;
}

/* Decodes into a node of the tree. 0, ERR_MEMORY, or ERR_FORMAT with *why. */
static int decode_rows(const struct prototype_core *c, const struct msg *m, struct stats_rows **out, enum reason *why,
                       struct error *detail)
{
    const struct mixture_options *o = &c->mixture->options;
    uint32_t rows_max = (c->stream ? 1 : m->slots) * prototype_core_slot_rows(c);
    struct stats_rows *s = malloc(sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    stats_rows_init(s);
    int rc = stats_decode(m, o->K, o->D, o->covariance, rows_max, s, why, detail);
    if (rc == 0 && !(s->count > 0 && s->count <= rows_max && fabs(s->loglik) < loglik_max)) {
        *why = REASON_BAD_VALUE;
        rc = error_set(detail, ERR_FORMAT, "loglik = %.6g", s->loglik);
    }
    uint64_t sample = c->stream ? 0 : run_config_init_rows(&c->config, m->step, m->slot, m->slots);
    if (rc == 0 && s->S != sample) {
        *why = REASON_BAD_SHAPE;
        rc = error_set(detail, ERR_FORMAT, "sample has %u rows, in this step these slots have %" PRIu64, s->S, sample);
    }
    if (rc != 0)
        drop_rows(s, NULL);
    else
        *out = s;
    return rc;
}

static int apply_stats(struct prototype_core *c, struct worker *worker, const struct peer *from, const struct msg *m,
                       struct outbox *out)
{
    struct stats_rows *rows = NULL;
    enum reason why = REASON_BAD_VALUE;
    struct error detail = {0};
    int rc = decode_rows(c, m, &rows, &why, &detail);
    if (rc == ERR_FORMAT)
        return prototype_core_refuse(c, from, m, why, detail.text, out);
    if (rc == 0)
        rc = reduce_put(c->reduce, m->slot, m->slots, rows);
    if (rc == 0 && c->out_of_memory)
        rc = ERR_MEMORY;
    if (rc == 0)
        rc = acknowledge(c, from, m, ACK_APPLIED, out);
    if (rc != 0)
        return rc;
    c->slots_applied += m->slots;
    if (worker != NULL)
        worker->slots_done += m->slots;
    struct stats_rows *sum = reduce_take(c->reduce);
    if (sum == NULL)
        return 0;
    rc = finish_step(c, sum, out);
    drop_rows(sum, NULL);
    return rc;
}

/* ---- a stream ---- */

static struct ledger_id id_of(const struct peer *from, const struct msg *m)
{
    return (struct ledger_id){m->worker, from->owner};
}

/* How a client stands; NULL: nothing of it has counted. */
static void add_standing(const struct prototype_core *c, const struct ledger_client *client, struct msg *reply)
{
    if (client != NULL)
        msg_add_scalar(reply, "applied", (double)client->applied);
    if (client != NULL && client->durable > 0)
        msg_add_scalar(reply, "durable", (double)client->durable);
    msg_add_scalar(reply, "credit", (double)ledger_credit(client, &c->stream->limits));
}

static int acknowledge_contribution(struct prototype_core *c, const struct ledger_client *client,
                                    const struct peer *from, const struct msg *m, enum ack_code code,
                                    struct outbox *out)
{
    int rc = acknowledge(c, from, m, code, out);
    if (rc == 0)
        add_standing(c, client, &out->items[out->count - 1].msg);
    return rc;
}

/* The sender needs to know where to begin again. */
static int refuse_contribution(struct prototype_core *c, const struct peer *from, const struct msg *m,
                               const struct prototype_verdict *v, struct outbox *out)
{
    c->counters.held_back += v->why == REASON_NOT_READY;
    int rc = prototype_core_refuse(c, from, m, v->why, v->text, out);
    if (rc == 0 && (v->why == REASON_NOT_READY || v->why == REASON_FUTURE_STEP))
        add_standing(c, ledger_find(c->stream->ledger, id_of(from, m)), &out->items[out->count - 1].msg);
    return rc;
}

static int fold_pending(struct prototype_core *c, struct outbox *out)
{
    int rc = finish_step(c, &c->stream->sum, out);
    stream_folded(c->stream);
    return rc;
}

/* What is new since the newest checkpoint is to be written, now. */
static int checkpoint_stream(struct prototype_core *c, struct outbox *out)
{
    int rc = c->stream->pending > 0 ? fold_pending(c, out) : 0;
    c->checkpoint_due = c->checkpoint_due || (version_of(c) > 0 && c->saved_version != version_of(c));
    return rc;
}

static int advance_stream(struct prototype_core *c, uint64_t now_ms, struct outbox *out)
{
    struct stream *s = c->stream;
    int rc = stream_version_due(s, now_ms) ? fold_pending(c, out) : 0;
    bool due = stream_checkpoint_due(s, now_ms) || (c->checkpoint_due && !s->writing);
    return rc == 0 && due ? checkpoint_stream(c, out) : rc;
}

static int apply_contribution(struct prototype_core *c, uint64_t now_ms, const struct peer *from, const struct msg *m,
                              struct outbox *out)
{
    struct stats_rows *rows = NULL;
    enum reason why = REASON_BAD_VALUE;
    struct error detail = {0};
    int rc = decode_rows(c, m, &rows, &why, &detail);
    if (rc == ERR_FORMAT)
        return prototype_core_refuse(c, from, m, why, detail.text, out);
    if (rc == 0) {
        rc = stream_add(c->stream, rows, now_ms);
        free(rows);
    }
    if (rc != 0)
        return rc;
    struct ledger_client *client = ledger_apply(c->stream->ledger, id_of(from, m), from, now_ms);
    stream_press(c->stream, client);
    c->slots_applied++;
    rc = acknowledge_contribution(c, client, from, m, ACK_APPLIED, out);
    return rc == 0 ? advance_stream(c, now_ms, out) : rc;
}

static int on_contribution(struct prototype_core *c, uint64_t now_ms, struct worker *worker, const struct peer *from,
                           const struct msg *m, struct outbox *out)
{
    struct prototype_verdict v = prototype_check_contribution(c, now_ms, from, m);
    if (v.kind == VERDICT_REFUSE)
        return refuse_contribution(c, from, m, &v, out);
    if (v.kind == VERDICT_DUPLICATE) {
        struct ledger_client *client = ledger_find(c->stream->ledger, id_of(from, m));
        ledger_note(client, from, false, now_ms);
        return acknowledge_contribution(c, client, from, m, ACK_DUPLICATE, out);
    }
    uint64_t before = c->counters.applied;
    int rc = apply_contribution(c, now_ms, from, m, out);
    if (worker != NULL)
        worker->slots_done += c->counters.applied - before;
    return rc;
}

/* A client that comes back says what it does not keep any more. */
static void take_up_client(struct prototype_core *c, uint64_t now_ms, const struct peer *from, const struct msg *m)
{
    uint64_t lost = ledger_pass_over(c->stream->ledger, id_of(from, m), m->seq, from, now_ms);
    if (lost > 0)
        log_warn("event=contributions_lost client=%016" PRIx64 " count=%" PRIu64
                 " cause=\"they were durable, and the checkpoint that had them was not resumed from\"",
                 m->worker, lost);
    struct ledger_client *client = ledger_find(c->stream->ledger, id_of(from, m));
    if (client != NULL)
        ledger_note(client, from, false, now_ms);
}

static int on_hello_stream(struct prototype_core *c, uint64_t now_ms, const struct peer *from, const struct msg *m,
                           struct outbox *out)
{
    struct prototype_verdict v = {.kind = VERDICT_APPLY};
    if (m->worker != 0)
        v = prototype_check_client(c, from, m);
    if (v.kind == VERDICT_REFUSE)
        return prototype_core_refuse(c, from, m, v.why, v.text, out);
    if (m->worker != 0)
        take_up_client(c, now_ms, from, m);
    const struct mixture_options *o = &c->mixture->options;
    const struct msg_scalar facts[] = {
        {"mode", MODE_STREAM},
        {"components", o->K},
        {"dimensions", o->D},
        {"covariance", o->covariance},
        {"rows_max", prototype_core_slot_rows(c)},
        {"reseed_choice", o->reseed_choice},
        {"beta", c->mixture->view->beta},
        {"window", (double)c->stream->limits.window},
        {"keep", (double)c->stream->limits.keep},
    };
    struct msg reply;
    reply_init(c, &reply, MSG_WELCOME);
    reply.worker = m->worker != 0 ? m->worker : ledger_name(c->stream->ledger, c->generation);
    snprintf(reply.text, sizeof reply.text, DECANT_VERSION);
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        msg_add_scalar(&reply, facts[i].name, facts[i].value);
    add_standing(c, m->worker != 0 ? ledger_find(c->stream->ledger, id_of(from, m)) : NULL, &reply);
    return outbox_to_peer(out, from, &reply);
}

int prototype_core_on_written(struct prototype_core *c, struct outbox *out)
{
    struct ledger_client *client;
    int rc = 0;
    if (c->stream == NULL)
        return 0;
    stream_written(c->stream);
    while (rc == 0 && (client = ledger_next_news(c->stream->ledger)) != NULL) {
        struct msg news;
        reply_init(c, &news, MSG_ACK);
        news.code = ACK_DURABLE;
        news.worker = client->id.name;
        news.seq = client->durable;
        add_standing(c, client, &news);
        rc = outbox_to_peer(out, &client->peer, &news);
    }
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
        return acknowledge(c, from, m, ACK_STALE, out);
    case VERDICT_DUPLICATE:
        return acknowledge(c, from, m, ACK_DUPLICATE, out);
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
    return reply_ack(c, from, m, c->rewind_due ? ACK_APPLIED : ACK_STALE, out);
}

static int on_hello(struct prototype_core *c, const struct peer *from, const struct msg *m, struct outbox *out)
{
    struct prototype_verdict v = prototype_check_total_steps(c, m);
    if (v.kind == VERDICT_APPLY)
        v = prototype_check_provenance(m);
    if (v.kind == VERDICT_REFUSE)
        return prototype_core_refuse(c, from, m, v.why, v.text, out);
    provenance_take(&c->provenance, m, version_of(c));
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
    reply_init(c, &reply, MSG_WELCOME);
    snprintf(reply.text, sizeof reply.text, DECANT_VERSION);
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        msg_add_scalar(&reply, facts[i].name, facts[i].value);
    return outbox_to_peer(out, from, &reply);
}

static int on_mixture_get(struct prototype_core *c, const struct peer *from, const struct msg *m, struct outbox *out)
{
    bool newest = m->seq == 1 || m->step == version_of(c);
    bool before = !newest && c->has_previous && m->step == c->previous->version;
    if (!newest && !before) {
        bool future = m->step > version_of(c);
        return prototype_core_refuse(c, from, m, REASON_UNKNOWN_VERSION,
                                     future ? "version does not exist yet" : "version is no longer held", out);
    }
    struct msg reply;
    int rc = full_message(c, newest, &reply);
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
    reply_init(c, &reply, MSG_PONG);
    reply.seq = m->seq;
    if (c->stream != NULL && m->worker != 0) {
        struct ledger_client *client = ledger_find(c->stream->ledger, id_of(from, m));
        if (client != NULL)
            ledger_note(client, from, m->code == 1, now_ms);
        add_standing(c, client, &reply);
    }
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
        return c->stream ? on_hello_stream(c, now_ms, from, m, out) : on_hello(c, from, m, out);
    case MSG_STATS:
        return c->stream ? on_contribution(c, now_ms, worker, from, m, out) : on_stats(c, worker, from, m, out);
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
    return c->stream != NULL && !c->stopping ? advance_stream(c, now_ms, out) : 0;
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
