/* Contributions instead of steps: each counts when it comes, and some of them make a version. */
#include "server/prototype/core_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/log.h"
#include "common/version.h"
#include "server/prototype/core_reply.h"
#include "server/prototype/core_step.h"

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
    int rc = prototype_core_acknowledge(c, from, m, code, out);
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
    int rc = prototype_core_finish_step(c, &c->stream->sum, out);
    stream_folded(c->stream);
    return rc;
}

/* What is new since the newest checkpoint is to be written, now. */
static int checkpoint_stream(struct prototype_core *c, struct outbox *out)
{
    int rc = c->stream->pending > 0 ? fold_pending(c, out) : 0;
    c->checkpoint_due =
        c->checkpoint_due || (prototype_core_version(c) > 0 && c->saved_version != prototype_core_version(c));
    return rc;
}

int prototype_core_advance_stream(struct prototype_core *c, uint64_t now_ms, struct outbox *out)
{
    struct stream *s = c->stream;
    int rc = stream_version_due(s, now_ms) ? fold_pending(c, out) : 0;
    bool due = stream_checkpoint_due(s, now_ms) || (c->checkpoint_due && !s->writing);
    return rc == 0 && due ? checkpoint_stream(c, out) : rc;
}

static int apply_contribution(struct prototype_core *c, uint64_t now_ms, const struct peer *from, const struct msg *m,
                              struct outbox *out)
{
    struct stats_rows *rows;
    int rc = prototype_core_take_rows(c, from, m, &rows, out);
    if (rc != 0 || rows == NULL)
        return rc;
    rc = stream_add(c->stream, rows, now_ms);
    free(rows);
    if (rc != 0)
        return rc;
    struct ledger_client *client = ledger_apply(c->stream->ledger, id_of(from, m), from, now_ms);
    stream_press(c->stream, client);
    c->slots_applied++;
    rc = acknowledge_contribution(c, client, from, m, ACK_APPLIED, out);
    return rc == 0 ? prototype_core_advance_stream(c, now_ms, out) : rc;
}

int prototype_core_on_contribution(struct prototype_core *c, uint64_t now_ms, struct worker *worker,
                                   const struct peer *from, const struct msg *m, struct outbox *out)
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

int prototype_core_on_hello_stream(struct prototype_core *c, uint64_t now_ms, const struct peer *from,
                                   const struct msg *m, struct outbox *out)
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
    prototype_core_reply(c, &reply, MSG_WELCOME);
    reply.worker = m->worker != 0 ? m->worker : ledger_name(c->stream->ledger, c->generation);
    snprintf(reply.text, sizeof reply.text, DECANT_VERSION);
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++)
        msg_add_scalar(&reply, facts[i].name, facts[i].value);
    add_standing(c, m->worker != 0 ? ledger_find(c->stream->ledger, id_of(from, m)) : NULL, &reply);
    return outbox_to_peer(out, from, &reply);
}

void prototype_core_on_ping_stream(struct prototype_core *c, uint64_t now_ms, const struct peer *from,
                                   const struct msg *m, struct msg *reply)
{
    struct ledger_client *client = ledger_find(c->stream->ledger, id_of(from, m));
    if (client != NULL)
        ledger_note(client, from, m->code == 1, now_ms);
    add_standing(c, client, reply);
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
        prototype_core_reply(c, &news, MSG_ACK);
        news.code = ACK_DURABLE;
        news.worker = client->id.name;
        news.seq = client->durable;
        add_standing(c, client, &news);
        rc = outbox_to_peer(out, &client->peer, &news);
    }
    return rc;
}
