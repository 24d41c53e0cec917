/* A state machine of the link (waiting, resolving, connecting, connected) driven by one slow tick, replies and hiredis'
 * callbacks. */
#include "server/prototype/mirror.h"

#include <inttypes.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "common/log.h"
#include "common/rng.h"
#include "server/prototype/hiredis_uv.h"
#include "server/prototype/mirror_batch.h"
#include "server/prototype/mirror_script.h"
#include "server/prototype/mirror_state.h"

enum {
    TICK_MS = 50,
    CONNECT_DEADLINE_MS = 2000,
    REPLY_DEADLINE_MS = 5000, /* commands in flight and not one reply: the link is dead */
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 5000,
    STOP_DEADLINE_MS = 1000,
    WINDOW_BATCHES = 2,      /* in flight at most: Redis has one while the next is made */
    BATCH_COMMANDS = 64,     /* at most ... */
    BATCH_BYTES = 256 << 10, /* ... or about this many bytes: well under a millisecond of Redis' time */
    STAND_BACK = 10,         /* intervals before a superseded server looks again */
    TTL_S = 15,
};

enum link { LINK_WAITING, LINK_RESOLVING, LINK_CONNECTING, LINK_CONNECTED };

struct mirror {
    struct mirror_options o;
    uv_loop_t *loop;
    uv_timer_t tick;
    uv_getaddrinfo_t resolver;
    redisAsyncContext *context; /* NULL unless connecting or connected; hiredis frees it */
    enum link link;
    uint32_t failures; /* connection attempts in a row */
    uint64_t wake_ms;  /* waiting: of the next attempt; connecting: the deadline */
    struct rng jitter;

    struct mirror_state state;  /* being written, when syncing */
    struct mirror_known *known; /* (K) */
    const struct diagnostics *diagnostics;
    struct mirror_script script;
    struct redis_command command, batch;
    struct mirror_queue queue;
    bool syncing, script_done, refused; /* refused: Redis answered a batch of this sync with an error */
    bool superseded;                    /* the newest answer was that a newer server writes here */
    bool full;                          /* the next sync writes everything */
    bool rewound;                       /* during a sync: what it wrote is already void */
    uint32_t in_flight;                 /* batches */
    uint64_t progress_ms;               /* newest reply, or newest send into an empty pipeline */
    uint64_t sync_ms;                   /* start of the sync */
    uint64_t next_sync_ms;
    uint64_t shown_ms; /* when the copy that Redis shows was taken; the start, before the first */
    uint64_t updates, refusals;
    double lag_ms;
    char started[MIRROR_TIME_MAX];

    bool stopping, final_written;
    uint64_t stop_ms; /* deadline of stopping */
    void (*done)(void *arg);
    void *done_arg;
};

static double unix_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the link goes down ---- */

static void wait_and_retry(struct mirror *m, const char *why)
{
    uint64_t pause = BACKOFF_FIRST_MS << (m->failures < 6 ? m->failures : 6);
    if (pause > BACKOFF_MAX_MS)
        pause = BACKOFF_MAX_MS;
    pause = (uint64_t)((double)pause * (0.5 + 0.5 * (double)rng_uniform(&m->jitter)));
    if (m->failures++ == 0)
        log_warn("event=redis_lost host=%s reason=\"%s\"", m->o.host, why);
    m->link = LINK_WAITING;
    m->wake_ms = uv_now(m->loop) + pause;
    m->syncing = false;
    m->full = true;
    m->in_flight = 0;
}

/* Ends the connection from outside hiredis' callbacks. They run with reply == NULL and find that the context is not
 * ours any more. */
static void drop(struct mirror *m, const char *why)
{
    redisAsyncContext *context = m->context;
    m->context = NULL;
    if (context != NULL)
        redisAsyncFree(context);
    wait_and_retry(m, why);
}

static void on_disconnect(const redisAsyncContext *context, int status)
{
    struct mirror *m = context->data;
    if (m->context != context)
        return;
    m->context = NULL;
    wait_and_retry(m, status == REDIS_OK ? "closed" : context->errstr);
}

static void link_up(struct mirror *m)
{
    m->link = LINK_CONNECTED;
    m->failures = 0;
    m->next_sync_ms = 0;
    log_info("event=redis_connected host=%s", m->o.host);
}

static void on_login(redisAsyncContext *context, void *data, void *arg)
{
    struct mirror *m = arg;
    const redisReply *reply = data;
    if (reply == NULL || m->context != context)
        return;
    if (reply->type == REDIS_REPLY_ERROR)
        drop(m, reply->str); /* "WRONGPASS ...": it does not repeat what we sent */
    else
        link_up(m);
}

/* Before anything else on the connection. Until the answer the link counts as connecting, with its deadline. */
static void log_in(struct mirror *m)
{
    const char *argv[3] = {"AUTH"};
    int n = redis_login_arguments(&m->o.login, argv + 1);
    if (n == 0)
        link_up(m);
    else
        (void)redisAsyncCommandArgv(m->context, on_login, m, n + 1, argv, NULL); /* unsent: the deadline ends it */
}

static void on_connect(const redisAsyncContext *context, int status)
{
    struct mirror *m = context->data;
    if (m->context != context)
        return;
    if (status != REDIS_OK) { /* hiredis frees the context after this */
        m->context = NULL;
        wait_and_retry(m, context->errstr);
        return;
    }
    log_in(m);
}

/* ---- the link comes up ---- */

/* Takes over a context that hiredis has begun to connect. */
static void adopt(struct mirror *m, redisAsyncContext *context)
{
    if (context == NULL || context->err != 0 || hiredis_uv_attach(context, m->loop) != 0) {
        char why[128];
        snprintf(why, sizeof why, "%s", context ? context->errstr : "out of memory");
        if (context != NULL)
            redisAsyncFree(context);
        wait_and_retry(m, why);
        return;
    }
    context->data = m;
    m->context = context;
    m->link = LINK_CONNECTING;
    m->wake_ms = uv_now(m->loop) + CONNECT_DEADLINE_MS;
    redisAsyncSetConnectCallback(context, on_connect);
    redisAsyncSetDisconnectCallback(context, on_disconnect);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct mirror *m = request->data;
    char address[64] = "";
    if (status == 0)
        status = getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST);
    uv_freeaddrinfo(found);
    if (status != 0 || m->stopping)
        wait_and_retry(m, "name not resolved");
    else
        adopt(m, redisAsyncConnect(address, m->o.port));
}

static void connect_now(struct mirror *m)
{
    if (m->o.host[0] == '/') {
        adopt(m, redisAsyncConnectUnix(m->o.host));
        return;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    m->resolver.data = m;
    m->link = LINK_RESOLVING;
    if (uv_getaddrinfo(m->loop, &m->resolver, on_resolved, m->o.host, NULL, &hints) != 0)
        wait_and_retry(m, "name not resolved");
}

/* ---- writing ---- */

static void finish_sync(struct mirror *m)
{
    m->syncing = false;
    m->next_sync_ms = m->sync_ms + (uint64_t)(1000 * m->o.interval_s) * (m->superseded ? STAND_BACK : 1);
    m->final_written = m->stopping;
    if (m->refused) {
        m->refusals++;
        return; /* what was refused stays unknown and is sent again */
    }
    m->updates++;
    m->shown_ms = m->sync_ms;
    m->lag_ms = (double)(uv_now(m->loop) - m->sync_ms);
    m->full = m->rewound;
    m->rewound = false;
    mirror_state_acknowledged(&m->state, m->known);
}

static void pump(struct mirror *m);

/* Nothing more of this sync is sent, and when the mirror is ours again everything in it is in doubt. */
static void stand_back(struct mirror *m, const char *reply)
{
    if (!m->superseded)
        log_warn("event=mirror_superseded text=\"%.100s\" generation=%" PRIu64
                 " hint=\"a newer server of this run writes there; is this one still wanted?\"",
                 reply, m->state.generation);
    m->superseded = m->script_done = m->full = true;
}

static void take_error(struct mirror *m, const char *reply)
{
    if (mirror_batch_superseded(reply))
        stand_back(m, reply);
    else if (!m->refused)
        log_warn("event=redis_refused text=\"%.200s\"", reply);
    m->refused = true;
}

static void on_reply(redisAsyncContext *context, void *data, void *arg)
{
    struct mirror *m = arg;
    const redisReply *reply = data;
    if (reply == NULL || m->context != context)
        return;
    m->in_flight--;
    m->progress_ms = uv_now(m->loop);
    if (reply->type == REDIS_REPLY_ERROR)
        take_error(m, reply->str);
    else
        m->superseded = false;
    if (m->syncing && m->script_done && m->in_flight == 0)
        finish_sync(m);
    else if (m->syncing && !m->script_done)
        pump(m);
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
    m->refused = m->script_done = true;
    return false;
}

/* Fills the pipeline. */
static void pump(struct mirror *m)
{
    if (m->in_flight == 0)
        m->progress_ms = uv_now(m->loop);
    while (m->in_flight < WINDOW_BATCHES && !m->script_done && make_batch(m)) {
        if (redisAsyncFormattedCommand(m->context, on_reply, m, m->batch.wire, m->batch.wire_size) != REDIS_OK) {
            m->refused = m->script_done = true;
            return;
        }
        m->in_flight++;
    }
}

static void start_sync(struct mirror *m)
{
    m->syncing = true;
    m->script_done = m->refused = false;
    m->sync_ms = uv_now(m->loop);
    m->state.refresh_max = m->stopping ? UINT32_MAX : MIRROR_REFRESH_MAX; /* what stays is complete */
    mirror_state_take(&m->state, m->o.core, m->diagnostics, m->known, m->full);
    m->state.now_ms = m->sync_ms;
    m->state.updated_s = unix_time();
    double ttl = 3 * m->o.interval_s;
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

static bool may_close(const struct mirror *m, uint64_t now)
{
    bool linked = m->link == LINK_CONNECTED;
    return m->stopping && m->link != LINK_RESOLVING && (m->final_written || !linked || now >= m->stop_ms);
}

static void close_mirror(struct mirror *m)
{
    redisAsyncContext *context = m->context;
    m->context = NULL;
    if (context != NULL)
        redisAsyncFree(context);
    uv_close((uv_handle_t *)&m->tick, on_closed);
}

static void on_tick(uv_timer_t *timer)
{
    struct mirror *m = timer->data;
    uint64_t now = uv_now(m->loop);
    if (may_close(m, now))
        close_mirror(m);
    else if (m->link == LINK_WAITING && now >= m->wake_ms)
        connect_now(m);
    else if (m->link == LINK_CONNECTING && now >= m->wake_ms)
        drop(m, "no connection within the deadline");
    else if (m->link == LINK_CONNECTED && m->in_flight > 0 && now >= m->progress_ms + REPLY_DEADLINE_MS)
        drop(m, "no reply within the deadline");
    else if (m->link == LINK_CONNECTED && m->syncing && m->in_flight == 0)
        drop(m, "pipeline failed"); /* a command could not be built or queued */
    else if (m->link == LINK_CONNECTED && !m->syncing && (m->stopping || now >= m->next_sync_ms))
        start_sync(m);
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
    mirror_time(unix_time(), m->started);
    m->shown_ms = uv_now(loop);
    redis_command_init(&m->command);
    redis_command_init(&m->batch);
    rng_open(&m->jitter, uv_hrtime(), RNG_JITTER, 0, 0, 0);
    m->known = calloc(x->K, sizeof *m->known);
    int rc = m->known ? mirror_state_init(&m->state, x->K, x->D, x->covariance == COVARIANCE_SPHERICAL) : ERR_MEMORY;
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
    redis_login_wipe(&m->o.login);
    free(m->known);
    free(m);
    *out = NULL;
}

void mirror_status(const struct mirror *m, struct mirror_status *out)
{
    *out = (struct mirror_status){
        .connected = m->link == LINK_CONNECTED,
        .superseded = m->superseded,
        .age_s = (double)(uv_now(m->loop) - m->shown_ms) / 1000,
        .lag_s = m->lag_ms / 1000,
        .updates = m->updates,
        .refused = m->refusals,
        .dropped = m->queue.dropped,
    };
}

void mirror_stop(struct mirror *m, void (*done)(void *arg), void *arg)
{
    m->stopping = true;
    m->done = done;
    m->done_arg = arg;
    m->stop_ms = uv_now(m->loop) + STOP_DEADLINE_MS;
}

void mirror_set_diagnostics(struct mirror *m, const struct diagnostics *d)
{
    m->diagnostics = d;
}

void mirror_rewound(struct mirror *m)
{
    m->full = true;
    m->rewound = m->syncing;
    m->next_sync_ms = 0;
}

void mirror_metrics(struct mirror *m, const struct msg *metrics)
{
    struct mirror_record *r = mirror_queue_push(&m->queue);
    r->step = metrics->step;
    r->count = metrics->scalar_count;
    memcpy(r->scalars, metrics->scalars, r->count * sizeof r->scalars[0]);
}

void mirror_event(struct mirror *m, const char *format, ...)
{
    struct mirror_record *r = mirror_queue_push(&m->queue);
    va_list args;
    va_start(args, format);
    r->event = true;
    vsnprintf(r->text, sizeof r->text, format, args);
    va_end(args);
}
