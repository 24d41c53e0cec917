/* The mirror's hands: what mirror_policy decides is done here, at a slow tick, and what happens is told to it. */
#include "server/prototype/mirror.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/log.h"
#include "proto/covariance.h"
#include "server/prototype/mirror_batch.h"
#include "server/prototype/mirror_greeting.h"
#include "server/prototype/mirror_policy.h"
#include "server/prototype/mirror_script.h"
#include "server/prototype/mirror_state.h"
#include "server/prototype/mirror_trouble.h"
#include "server/prototype/redis_link.h"

enum {
    TICK_MS = 50,
    BATCH_COMMANDS = 64,     /* at most ... */
    BATCH_BYTES = 256 << 10, /* ... or about this many bytes: well under a millisecond of Redis' time */
    BATCH_REPLY_MAX = 4096,  /* bytes; "+OK", or an error */
    TTL_S = 15,
};

struct mirror {
    struct mirror_options o;
    char where[REDIS_ADDRESS_TEXT_MAX];
    uv_loop_t *loop;
    uv_timer_t tick;
    struct mirror_policy policy;
    struct redis_link *link; /* NULL while waiting */
    struct mirror_greeting greeting;
    bool greeted;

    struct mirror_state state;  /* being written, when updating */
    struct mirror_known *known; /* (K) */
    const struct diagnostics *diagnostics;
    struct mirror_script script;
    struct redis_command command, batch;
    struct mirror_queue queue;
    bool script_done;            /* nothing more of this update is sent */
    enum mirror_outcome outcome; /* of this update, so far */
    bool full;                   /* the next update writes everything */
    bool rewound;                /* during an update: what it wrote is already void */
    uint64_t shown_ms;           /* when the copy that Redis shows was taken; the start, before the first */
    uint64_t updates, refusals, lost;
    double lag_ms;
    char started[MIRROR_TIME_MAX];
    struct mirror_trouble trouble;

    void (*done)(void *arg);
    void *done_arg;
};

/* ---- the link goes down ---- */

static void log_loss(struct mirror *m, const char *kind, const char *text, const char *advice)
{
    char reason[TROUBLE_TEXT_MAX];
    uint64_t count = mirror_trouble_note(&m->trouble, kind);
    m->lost++;
    if (count > 0 && advice)
        log_warn("event=redis_lost kind=%s count=%" PRIu64 " host=%s reason=\"%s\" hint=\"%s\"", kind, count, m->where,
                 mirror_trouble_text(text, reason), advice);
    else if (count > 0)
        log_warn("event=redis_lost kind=%s count=%" PRIu64 " host=%s reason=\"%s\"", kind, count, m->where,
                 mirror_trouble_text(text, reason));
}

static void lose(struct mirror *m, const char *kind, const char *text, const char *advice)
{
    redis_link_close(&m->link);
    log_loss(m, kind, text, advice);
    mirror_policy_lost(&m->policy, uv_now(m->loop));
    m->full = true;
}

static const char *advice_of(const char *kind)
{
    static const char *const known[][2] = {
        {"unasked", "what listens there is no Redis: correct redis.host and redis.port"},
        {"protocol", "what listens there is no Redis, or speaks TLS: correct redis.host and redis.port"},
        {"name", "correct redis.host"},
        {"deadline", "is it a Redis, and is it well?"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(kind, known[i][0]) == 0)
            return known[i][1];
    return NULL;
}

static void on_down(void *arg, const char *kind, const char *text)
{
    struct mirror *m = arg;
    m->link = NULL; /* it has freed itself */
    lose(m, kind, text, advice_of(kind));
}

/* ---- the link comes up ---- */

static void link_up(struct mirror *m)
{
    const struct redis_judgement *j = &m->greeting.judgement;
    m->greeted = true;
    redis_link_limit(m->link, BATCH_REPLY_MAX);
    mirror_policy_linked(&m->policy, uv_now(m->loop));
    if (mirror_trouble_note(&m->trouble, "connected") > 0)
        log_info("event=redis_connected host=%s version=%s", m->where, j->version[0] ? j->version : "unknown");
    if (m->greeting.unjudged && mirror_trouble_note(&m->trouble, "unjudged") > 0)
        log_warn("event=redis_unjudged host=%s hint=\"allow redis.user INFO, as docs/REDIS.md lists\"", m->where);
    if (j->fitness == REDIS_TIGHT && mirror_trouble_note(&m->trouble, "tight") > 0)
        log_warn("event=redis_tight host=%s reason=\"%s\" hint=\"%s\"", m->where, j->text, j->advice);
}

/* Sends the next word of greeting, or nothing more is to be said and the link is up. */
static void greet(struct mirror *m)
{
    if (!mirror_greeting_next(&m->greeting, &m->command))
        link_up(m);
    else if (redis_command_end(&m->command) != 0 || !redis_link_send(m->link, m->command.wire, m->command.wire_size))
        lose(m, "memory", "out of memory", NULL);
}

static void on_up(void *arg)
{
    struct mirror *m = arg;
    const struct mirror_state *s = &m->state;
    redis_link_limit(m->link, GREETING_REPLY_MAX);
    mirror_greeting_begin(&m->greeting, &m->o.address,
                          redis_bytes_needed(s->K, s->D, covariance_width(s->covariance, s->D)));
    greet(m);
}

static void be_unfit(struct mirror *m)
{
    char reason[TROUBLE_TEXT_MAX];
    uint64_t count = mirror_trouble_note(&m->trouble, "unfit");
    redis_link_close(&m->link);
    m->lost++;
    if (count > 0)
        log_warn("event=redis_unfit count=%" PRIu64 " host=%s reason=\"%s\" hint=\"%s\"", count, m->where,
                 mirror_trouble_text(m->greeting.text, reason), m->greeting.advice);
    mirror_policy_unfit(&m->policy, uv_now(m->loop));
}

static void take_greeting(struct mirror *m, const redisReply *reply)
{
    switch (mirror_greeting_take(&m->greeting, reply)) {
    case GREETING_FINE:
        greet(m);
        return;
    case GREETING_REFUSED:
        lose(m, m->greeting.kind, m->greeting.text, m->greeting.advice);
        return;
    case GREETING_UNFIT:
        be_unfit(m);
        return;
    }
}

static void on_reply(void *arg, const redisReply *reply);

static void connect_now(struct mirror *m)
{
    struct error e = {0};
    const struct redis_link_options o = {.address = &m->o.address,
                                         .attempt = m->policy.failures,
                                         .on_up = on_up,
                                         .on_reply = on_reply,
                                         .on_down = on_down,
                                         .arg = m};
    m->greeted = false;
    mirror_policy_reaching(&m->policy, uv_now(m->loop));
    if (redis_link_open(m->loop, &o, &m->link, &e) != 0)
        lose(m, "connect", e.text, NULL);
}

/* ---- writing ---- */

static void finish_update(struct mirror *m)
{
    mirror_policy_ended(&m->policy, m->outcome);
    if (m->rewound)
        mirror_policy_hurry(&m->policy);
    if (m->outcome != MIRROR_TAKEN) {
        m->refusals++;
        return; /* what was refused stays unknown and is sent again */
    }
    m->updates++;
    m->shown_ms = m->policy.began_ms;
    m->lag_ms = (double)(uv_now(m->loop) - m->policy.began_ms);
    m->full = m->rewound;
    m->rewound = false;
    if (m->state.waiting > 0)
        mirror_policy_more(&m->policy);
    mirror_state_acknowledged(&m->state, m->known);
}

/* Whatever it refuses, nothing more of this update is sent: it would be as futile, and would have to be sent again. The
 * batch that was in flight beside it is refused too, and does not count. */
static void take_refusal(struct mirror *m, const char *reply)
{
    if (m->outcome != MIRROR_TAKEN)
        return;
    char kind[TROUBLE_KIND_MAX], text[TROUBLE_TEXT_MAX];
    bool superseded = mirror_batch_superseded(reply);
    mirror_trouble_kind(reply, kind);
    m->script_done = true;
    m->outcome = superseded ? MIRROR_SUPERSEDED : MIRROR_REFUSED;
    m->full = m->full || superseded; /* when the mirror is ours again everything in it is in doubt */
    if (superseded && !m->policy.superseded)
        log_warn("event=mirror_superseded text=\"%s\" generation=%" PRIu64
                 " hint=\"a newer server of this run writes there; is this one still wanted?\"",
                 mirror_trouble_text(reply, text), m->state.generation);
    uint64_t count = superseded ? 0 : mirror_trouble_note(&m->trouble, kind);
    if (count > 0)
        log_warn("event=redis_refused kind=%s count=%" PRIu64 " text=\"%s\" hint=\"%s\"", kind, count,
                 mirror_trouble_text(reply, text), redis_error_advice(reply));
}

/* The script's next commands as one batch; false when there are none, or memory ran out. */
static bool make_batch(struct mirror *m)
{
    int n = 0;
    mirror_batch_begin(&m->batch, m->o.run, m->state.generation, m->started);
    while ((n < BATCH_COMMANDS && m->batch.size < BATCH_BYTES) || mirror_script_joined(&m->script)) {
        if (!mirror_script_next(&m->script, &m->command)) {
            m->script_done = true;
            break;
        }
        mirror_batch_add(&m->batch, &m->command);
        n++;
    }
    if (redis_command_end(&m->batch) == 0)
        return n > 0;
    m->outcome = MIRROR_REFUSED;
    m->script_done = true;
    return false;
}

/* Fills the pipeline. */
static void pump(struct mirror *m)
{
    while (mirror_policy_may_send(&m->policy) && !m->script_done && make_batch(m)) {
        if (!redis_link_send(m->link, m->batch.wire, m->batch.wire_size)) {
            m->outcome = MIRROR_REFUSED;
            m->script_done = true;
            return;
        }
        mirror_policy_sent(&m->policy, uv_now(m->loop));
    }
}

static void on_reply(void *arg, const redisReply *reply)
{
    struct mirror *m = arg;
    if (!m->greeted) {
        take_greeting(m, reply);
        return;
    }
    mirror_policy_answered(&m->policy, uv_now(m->loop));
    if (reply->type == REDIS_REPLY_ERROR)
        take_refusal(m, reply->str);
    if (!m->script_done)
        pump(m);
    if (m->script_done && m->policy.in_flight == 0)
        finish_update(m);
}

static void update_now(struct mirror *m)
{
    uint64_t now = uv_now(m->loop);
    double ttl = 3 * m->o.interval_s;
    mirror_policy_updating(&m->policy, now);
    m->script_done = false;
    m->outcome = MIRROR_TAKEN;
    m->state.refresh_max = m->policy.stopping ? UINT32_MAX : MIRROR_REFRESH_MAX; /* what stays is complete */
    if (m->full) /* and what this update has no room for is not known to be there either */
        memset(m->known, 0, m->state.K * sizeof *m->known);
    mirror_state_take(&m->state, m->o.core, m->diagnostics, m->known, m->full);
    m->state.now_ms = now;
    m->state.updated_s = unix_time();
    mirror_script_begin(&m->script, &(struct mirror_script_options){
                                        .run = m->o.run,
                                        .state = &m->state,
                                        .queue = &m->queue,
                                        .started = m->started,
                                        .ttl_s = ttl > TTL_S ? (uint32_t)ttl : TTL_S,
                                        .lag_ms = m->lag_ms,
                                    });
    pump(m);
}

/* ---- time ---- */

static void on_closed(uv_handle_t *handle)
{
    struct mirror *m = handle->data;
    m->done(m->done_arg);
}

static void on_tick(uv_timer_t *timer)
{
    struct mirror *m = timer->data;
    const char *why = "";
    switch (mirror_policy_decide(&m->policy, uv_now(m->loop), &why)) {
    case MIRROR_REST:
        return;
    case MIRROR_CONNECT:
        connect_now(m);
        return;
    case MIRROR_DROP:
        lose(m, "deadline", why, advice_of("deadline"));
        return;
    case MIRROR_UPDATE:
        update_now(m);
        return;
    case MIRROR_CLOSE:
        redis_link_close(&m->link);
        uv_close((uv_handle_t *)&m->tick, on_closed);
        return;
    }
}

/* ---- life ---- */

int mirror_new(uv_loop_t *loop, const struct mirror_options *o, struct mirror **out, struct error *e)
{
    const struct mixture_options *x = &prototype_core_mixture(o->core)->options;
    struct mirror *m = calloc(1, sizeof *m);
    *out = NULL;
    if (m == NULL)
        return error_set(e, ERR_MEMORY, "Redis mirror: out of memory");
    m->o = *o;
    m->loop = loop;
    m->full = true;
    redis_address_text(&o->address, m->where);
    mirror_time(unix_time(), m->started);
    m->shown_ms = uv_now(loop);
    redis_command_init(&m->command);
    redis_command_init(&m->batch);
    mirror_policy_init(&m->policy, o->interval_s, uv_hrtime());
    m->known = calloc(x->K, sizeof *m->known);
    int rc = m->known ? mirror_state_init(&m->state, x->K, x->D, x->covariance) : ERR_MEMORY;
    if (rc != 0) {
        mirror_free(&m);
        return error_set(e, rc, "Redis mirror: out of memory");
    }
    uv_timer_init(loop, &m->tick);
    m->tick.data = m;
    uv_timer_start(&m->tick, on_tick, 0, TICK_MS);
    *out = m;
    return 0;
}

void mirror_free(struct mirror **out)
{
    struct mirror *m = *out;
    if (m == NULL)
        return;
    mirror_state_fini(&m->state);
    redis_command_fini(&m->command);
    redis_command_fini(&m->batch);
    redis_address_wipe(&m->o.address);
    free(m->known);
    free(m);
    *out = NULL;
}

void mirror_status(const struct mirror *m, struct mirror_status *out)
{
    bool connected = m->policy.phase == MIRROR_IDLE || m->policy.phase == MIRROR_UPDATING;
    *out = (struct mirror_status){
        .connected = connected,
        .superseded = m->policy.superseded,
        .age_s = (double)(uv_now(m->loop) - m->shown_ms) / 1000,
        .lag_s = m->lag_ms / 1000,
        .updates = m->updates,
        .refused = m->refusals,
        .lost = m->lost,
        .dropped = m->queue.dropped,
    };
}

void mirror_stop(struct mirror *m, void (*done)(void *arg), void *arg)
{
    m->done = done;
    m->done_arg = arg;
    mirror_policy_stop(&m->policy, uv_now(m->loop));
}

void mirror_set_diagnostics(struct mirror *m, const struct diagnostics *d)
{
    m->diagnostics = d;
}

void mirror_rewound(struct mirror *m)
{
    m->full = true;
    m->rewound = m->policy.phase == MIRROR_UPDATING;
    mirror_policy_hurry(&m->policy);
}

struct mirror_queue *mirror_queue(struct mirror *m)
{
    return m != NULL ? &m->queue : NULL;
}
