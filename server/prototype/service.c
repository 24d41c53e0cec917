/* Wiring. Everything here runs on the loop's thread; the thread pool only sees snapshots. */
#include "server/prototype/service.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "common/http_metrics.h"
#include "common/log.h"
#include "common/net.h"
#include "common/vecmath.h"
#include "server/shell/door.h"
#include "server/shell/pairing.h"
#include "proto/run_dir.h"
#include "server/prototype/checkpoint_writer.h"
#include "server/prototype/core.h"
#include "server/prototype/diagnostics_runner.h"
#include "server/prototype/prometheus.h"
#include "server/prototype/metrics_file.h"
#include "server/prototype/mirror.h"

enum {
    TIMER_MS = 1000,
    PUBLISH_HWM = 8,           /* mixtures are large and versioned: a slow subscriber asks for a snapshot instead */
    MESSAGE_SLACK = 1 << 20,   /* header, assignments, candidates of small runs */
    SUBSCRIPTION_BYTES = 1024, /* what a subscriber may send */
};

struct service {
    const struct run_config *config;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t sigterm, sigint;
    struct net *net;
    struct door door;
    struct net_socket *requests, *publish;
    struct prototype_core *core;
    struct outbox outbox;
    struct prototype_metrics *metrics;
    struct mirror *mirror;     /* NULL when redis.enabled is false */
    struct http_metrics *http; /* NULL when metrics.prototype is empty */
    struct step_clock clock;
    struct checkpoint_record checkpoints;
    struct checkpoint_writer writer;
    struct diagnostics_runner runner;
    struct diagnostics *diagnostics; /* newest pass */
    uint64_t version_seen;           /* version after the message before */
    uint64_t version_offered;        /* newest version that was handed to the writer, or was read from disk */
    int lock;                        /* of the run's directory; -1 before it is held */
    struct pairing pairing;
    uint64_t rewinds_refused;
    bool stopping;
    int rc; /* what the process will say about itself */
};

static double unix_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t version_of(const struct service *s)
{
    return prototype_core_mixture(s->core)->view->version;
}

static void stop(struct service *s, const char *reason);

static void fail(struct service *s, int rc, const char *what)
{
    log_error("event=failed what=%s reason=%s", what, error_name(rc));
    s->rc = rc;
    stop(s, "failure");
}

/* ---- outgoing ---- */

static void send_item(struct service *s, const struct outbox_item *item)
{
    struct buf *frames[2 + MSG_TENSORS_MAX];
    bool to_peer = item->kind == OUT_PEER;
    size_t n = 0;
    ASSERT(to_peer || item->kind == OUT_PUBLISH);
    frames[0] = to_peer ? buf_copy(item->peer.id, item->peer.size) : buf_copy(item->topic, strlen(item->topic));
    if (frames[0] == NULL || msg_encode(&item->msg, frames + 1, &n) != 0) {
        log_error("event=message_lost type=%s reason=memory", msg_type_name(item->msg.type));
        n = 0;
    } else {
        (void)net_send(to_peer ? s->requests : s->publish, frames, n + 1); /* a lost message is asked for again */
    }
    for (size_t i = 0; i < n + 1; i++)
        buf_unref(&frames[i]);
}

static void flush(struct service *s)
{
    for (size_t i = 0; i < s->outbox.count; i++) {
        const struct outbox_item *item = &s->outbox.items[i];
        if (!s->stopping)
            send_item(s, item);
        if (item->msg.type != MSG_METRICS)
            continue;
        prototype_metrics_append(s->metrics, &item->msg, unix_time());
        if (s->mirror != NULL)
            mirror_metrics(s->mirror, &item->msg);
    }
    outbox_clear(&s->outbox);
}

/* ---- a new version ---- */

static void offer_checkpoint(struct service *s)
{
    s->version_offered = version_of(s);
    int rc = checkpoint_writer_offer(&s->writer, prototype_core_mixture(s->core), prototype_core_total_steps(s->core));
    if (rc != 0)
        log_error("event=checkpoint_failed step=%" PRIu64 " reason=%s", version_of(s), error_name(rc));
    if (rc != 0 && s->stopping)
        s->rc = rc;
}

static void poll_diagnostics(struct service *s)
{
    int rc =
        diagnostics_runner_poll(&s->runner, prototype_core_mixture(s->core), prototype_core_active_window(s->core));
    if (rc != 0)
        log_warn("event=diagnostics_failed reason=%s", error_name(rc));
}

static bool is_due(uint64_t version, int64_t every, uint64_t total)
{
    return version == total || (every > 0 && version % (uint64_t)every == 0);
}

static void on_version(struct service *s)
{
    const struct mixture *m = prototype_core_mixture(s->core);
    uint64_t version = version_of(s), total = prototype_core_total_steps(s->core);
    if (m->reseed_count > 0 && s->mirror != NULL)
        mirror_event(s->mirror, "{\"event\":\"reseed\",\"step\":%" PRIu64 ",\"count\":%u,\"first\":%u}", version,
                     m->reseed_count, m->reseeds[0].component);
    if (is_due(version, s->config->run.checkpoint_every, total))
        offer_checkpoint(s);
    if (is_due(version, s->config->run.log_every, total))
        s->runner.wanted = true;
    poll_diagnostics(s);
    if (version == total)
        log_info("event=run_complete step=%" PRIu64 " reseeded=%" PRIu64, version, m->reseeded);
}

/* ---- going back, and the end ---- */

static int find_checkpoint(struct service *s, uint64_t step_max, struct mixture **resumed, uint64_t *total_steps,
                           struct error *e)
{
    struct mixture_options options = mixture_options_of(s->config);
    *resumed = NULL;
    if (mixture_new(&options, resumed) != 0)
        return error_set(e, ERR_MEMORY, "mixture: out of memory");
    int rc = mixture_checkpoint_resume(s->config, step_max, *resumed, total_steps, e);
    if (rc != 0)
        mixture_free(resumed);
    return rc;
}

/* The newest checkpoint at or below step_max into the core, under a new generation; none: the start. */
static int rewind_to(struct service *s, uint64_t step_max, struct error *e)
{
    struct mixture *resumed;
    uint64_t generation, total_steps;
    int rc = run_dir_lock_held(s->config, server_name(SERVER_PROTOTYPE), s->lock, e);
    if (rc == 0)
        rc = run_dir_raise_generation(s->config, SERVER_PROTOTYPE, &generation, e);
    if (rc == 0)
        rc = find_checkpoint(s, step_max, &resumed, &total_steps, e);
    if (rc != 0 && rc != ERR_NOT_FOUND)
        return rc;
    bool found = rc == 0;
    uint64_t parameter = run_dir_generation(s->config, SERVER_PARAMETER);
    rc = prototype_core_rewind(s->core, generation, resumed, &s->outbox);
    if (rc != 0) {
        mixture_free(&resumed);
        return error_set(e, rc, "out of memory for the checkpoint");
    }
    pairing_begin(&s->pairing, parameter, version_of(s));
    s->version_seen = version_of(s);
    s->version_offered = found ? version_of(s) : UINT64_MAX;
    step_clock_note(&s->clock, version_of(s), uv_now(&s->loop));
    log_warn("event=rewound step=%" PRIu64 " generation=%" PRIu64 " cause=\"the parameter server has lost steps\"",
             version_of(s), generation);
    if (s->mirror == NULL)
        return 0;
    mirror_rewound(s->mirror);
    mirror_event(s->mirror, "{\"event\":\"rewind\",\"step\":%" PRIu64 ",\"generation\":%" PRIu64 "}", version_of(s),
                 generation);
    return 0;
}

static bool may_go_back(struct service *s)
{
    if (pairing_may_go_back(&s->pairing, run_dir_generation(s->config, SERVER_PARAMETER)))
        return true;
    uint64_t count = ++s->rewinds_refused;
    if ((count & (count - 1)) == 0)
        log_warn("event=rewind_refused count=%" PRIu64 " cause=\"the parameter server has not started anew\"", count);
    return false;
}

/* Nothing is left to do once step T is on disk whole: nobody can ask to go back any more. */
static void leave_when_complete(struct service *s)
{
    uint64_t version = version_of(s);
    bool last = version > 0 && version == prototype_core_total_steps(s->core) && version == s->version_offered;
    if (last && s->writer.writing == NULL && run_dir_step_complete(s->config, version))
        stop(s, "complete");
}

/* ---- incoming ---- */

static void dispatch(struct service *s, const struct peer *from, struct buf **frames, size_t n)
{
    struct msg m;
    struct error e = {0};
    enum reason why = REASON_BAD_HEADER;
    int rc = msg_decode(frames, n, &m, &why, &e);
    if (rc == 0 && !door_lets(&s->door, net_sender(s->requests), &m)) {
        rc = error_set(&e, ERR_STATE, "%s", "the role of this key does not include that");
        why = REASON_FORBIDDEN;
    }
    if (rc == 0)
        rc = prototype_core_on_message(s->core, uv_now(&s->loop), from, &m, &s->outbox);
    else
        rc = prototype_core_refuse(s->core, from, &m, why, e.text, &s->outbox);
    msg_fini(&m);
    uint64_t step_max;
    if (pairing_due(&s->pairing, version_of(s)))
        pairing_note(&s->pairing, run_dir_generation(s->config, SERVER_PARAMETER), version_of(s));
    if (prototype_core_take_rewind(s->core, &step_max) && may_go_back(s) && (rc = rewind_to(s, step_max, &e)) != 0)
        log_error("event=rewind_failed cause=\"%s\"", e.text);
    flush(s);
    if (rc != 0) {
        fail(s, rc, "message");
        return;
    }
    if (version_of(s) == s->version_seen)
        return;
    s->version_seen = version_of(s);
    step_clock_note(&s->clock, version_of(s), uv_now(&s->loop));
    on_version(s);
}

/* frames[0] is the routing id, frames[1] the header. */
static void on_request(void *arg, struct buf **frames, size_t n)
{
    struct service *s = arg;
    struct peer from = {0};
    if (s->stopping || n < 2 || frames[0]->size > PEER_ID_MAX)
        return;
    from.size = (uint8_t)frames[0]->size;
    memcpy(from.id, frames[0]->data, frames[0]->size);
    dispatch(s, &from, frames + 1, n - 1);
}

static void on_subscription(void *arg, struct buf **frames, size_t n)
{
    struct service *s = arg;
    door_on_subscriber(&s->door, net_sender(s->publish));
    if (n == 1 && frames[0]->size > 0)
        log_debug("event=%s topic=\"%.*s\"", frames[0]->data[0] == 1 ? "subscribed" : "unsubscribed",
                  (int)(frames[0]->size - 1), (const char *)frames[0]->data + 1);
}

/* ---- loop callbacks ---- */

static void on_timer(uv_timer_t *timer)
{
    struct service *s = timer->data;
    int rc = prototype_core_on_timer(s->core, uv_now(&s->loop), &s->outbox);
    flush(s);
    if (rc != 0) {
        fail(s, rc, "timer");
        return;
    }
    poll_diagnostics(s);
    leave_when_complete(s);
}

static void on_mirror_stopped(void *arg)
{
    (void)arg; /* its handles are gone; the loop ends by itself when the rest is too */
}

/* The mirror's last sync carries the last version's diagnostics: a pass of its own if there is none yet. */
static void end_mirror(struct service *s)
{
    if (s->diagnostics == NULL || s->diagnostics->version != version_of(s)) {
        s->runner.wanted = true;
        s->runner.rest_until_ms = 0;
        poll_diagnostics(s);
        if (s->runner.busy)
            return; /* on_diagnostics comes back here */
    }
    mirror_stop(s->mirror, on_mirror_stopped, s);
}

static void on_diagnostics(void *arg, struct diagnostics *d)
{
    struct service *s = arg;
    if (d != NULL) {
        diagnostics_free(&s->diagnostics);
        s->diagnostics = d;
        if (s->mirror != NULL)
            mirror_set_diagnostics(s->mirror, d);
        if (prototype_core_on_diagnostics(s->core, d, &s->outbox) != 0)
            log_warn("event=diagnostics_failed reason=memory");
        flush(s);
    }
    if (!s->stopping)
        poll_diagnostics(s);
    else if (s->mirror != NULL && d != NULL)
        end_mirror(s);
    else if (s->mirror != NULL)
        mirror_stop(s->mirror, on_mirror_stopped, s);
}

static void on_written(void *arg, uint64_t step, int rc)
{
    struct service *s = arg;
    const struct error *result = rc != 0 ? &s->writer.error : &(struct error){0};
    checkpoint_record_note(&s->checkpoints, step, result, uv_now(&s->loop));
    if (rc == ERR_STATE)
        fail(s, rc, "run_directory"); /* it is another's by now */
    if (rc != 0 && s->stopping)
        s->rc = rc;
    if (s->mirror != NULL)
        mirror_event(s->mirror, "{\"event\":\"checkpoint\",\"step\":%" PRIu64 ",\"ok\":%s}", step,
                     rc == 0 ? "true" : "false");
}

/* Stops accepting, writes what is not on disk yet, and lets go of every handle, so that the loop runs out. */
static void stop(struct service *s, const char *reason)
{
    if (s->stopping)
        return;
    s->stopping = true;
    log_info("event=stopping reason=%s step=%" PRIu64, reason, version_of(s));
    prototype_core_stop(s->core);
    net_close(&s->requests);
    net_close(&s->publish);
    http_metrics_close(&s->http);
    door_close(&s->door);
    uv_close((uv_handle_t *)&s->timer, NULL);
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
    /* libuv has let go of them: a signal that comes late must not kill what is being written */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    if (s->rc == 0 && s->version_offered != version_of(s) && version_of(s) > 0) /* 0 follows from the seed */
        offer_checkpoint(s);
    if (s->mirror == NULL)
        return;
    mirror_event(s->mirror, "{\"event\":\"stop\",\"step\":%" PRIu64 ",\"reason\":\"%s\"}", version_of(s), reason);
    end_mirror(s);
}

static void on_signal(uv_signal_t *handle, int number)
{
    stop(handle->data, number == SIGTERM ? "sigterm" : "sigint");
}

/* ---- start ---- */

static int open_core(struct service *s, bool resume, struct error *e)
{
    struct prototype_core_options o = {.config = s->config};
    int rc = run_dir_lock(s->config, server_name(SERVER_PROTOTYPE), &s->lock, e);
    s->writer.lock = s->lock;
    if (rc == 0)
        rc = run_dir_raise_generation(s->config, SERVER_PROTOTYPE, &o.generation, e);
    uint64_t parameter = run_dir_generation(s->config, SERVER_PARAMETER);
    if (rc == 0 && !resume)
        rc = run_dir_start_over(s->config, e);
    if (rc == 0 && resume) {
        rc = find_checkpoint(s, UINT64_MAX, &o.resumed, &o.total_steps, e);
        if (rc == ERR_NOT_FOUND) {
            log_info("event=nothing_to_resume text=\"%s\"", e->text);
            rc = 0;
        }
    }
    bool resumed = o.resumed != NULL;
    if (rc == 0)
        rc = prototype_core_new(&o, &s->core, e);
    if (rc == 0)
        pairing_begin(&s->pairing, parameter, version_of(s));
    if (rc != 0) {
        mixture_free(&o.resumed);
        return rc;
    }
    s->version_seen = version_of(s);
    s->version_offered = resumed ? version_of(s) : UINT64_MAX;
    step_clock_start(&s->clock, version_of(s), uv_now(&s->loop));
    checkpoint_record_start(&s->checkpoints, version_of(s), uv_now(&s->loop));
    log_info("event=%s step=%" PRIu64 " generation=%" PRIu64 " components=%u dimensions=%u",
             resumed ? "resumed" : "started", version_of(s), o.generation, prototype_core_mixture(s->core)->options.K,
             prototype_core_mixture(s->core)->options.D);
    return 0;
}

/* The largest frame of a step's statistics: s1 of the dense encoding, or the embeddings of the factored one. */
static int64_t frame_bytes_max(const struct run_config *c)
{
    int64_t rows = 2 * c->run.slots * c->run.slot_size, K = c->mixture.components;
    int64_t widest = K > rows ? K : rows;
    return MESSAGE_SLACK + 4 * (widest > 4096 ? widest : 4096) * c->mixture.dimensions;
}

static int open_sockets(struct service *s, struct error *e)
{
    const struct run_config *c = s->config;
    struct net_options requests = {.role = NET_ROUTER,
                                   .endpoint = c->net.prototype,
                                   .message_bytes_max = frame_bytes_max(c),
                                   .curve = &s->door.curve,
                                   .on_event = door_on_event,
                                   .event_arg = &s->door};
    struct net_options publish = {.role = NET_XPUB,
                                  .endpoint = c->net.prototype_publish,
                                  .message_bytes_max = SUBSCRIPTION_BYTES,
                                  .hwm = PUBLISH_HWM,
                                  .curve = &s->door.curve,
                                  .on_event = door_on_event,
                                  .event_arg = &s->door};
    int rc = net_new(&s->net, e);
    if (rc == 0)
        rc = door_open(&s->door, s->net, &s->loop, c, SERVER_PROTOTYPE, e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &requests, on_request, s, &s->requests, e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &publish, on_subscription, s, &s->publish, e);
    door_opened(&s->door);
    if (rc == 0)
        log_info("event=listening requests=%s publish=%s", net_endpoint(s->requests), net_endpoint(s->publish));
    return rc;
}

static int open_mirror(struct service *s, struct error *e)
{
    const struct run_config *c = s->config;
    if (!c->redis.enabled)
        return 0;
    struct mirror_options o = {.run = c->run.name,
                               .host = c->redis.host,
                               .port = (int)c->redis.port,
                               .interval_s = c->redis.interval,
                               .core = s->core};
    int rc = redis_login_read(c, &o.login, e);
    if (rc == 0)
        rc = mirror_new(&s->loop, &o, &s->mirror, e);
    redis_login_wipe(&o.login);
    if (rc == 0)
        mirror_event(s->mirror, "{\"event\":\"start\",\"step\":%" PRIu64 ",\"generation\":%" PRIu64 "}", version_of(s),
                     prototype_core_generation(s->core));
    return rc;
}

/* ---- for those who watch ---- */

static struct server_figures figures(const struct service *s)
{
    const struct prototype_counters *c = prototype_core_counters(s->core);
    return (struct server_figures){
        .server = SERVER_PROTOTYPE,
        .config = s->config,
        .generation = prototype_core_generation(s->core),
        .total_steps = prototype_core_total_steps(s->core),
        .now_ms = uv_now(&s->loop),
        .workers = prototype_core_roster(s->core)->count,
        .applied = c->applied,
        .duplicates = c->duplicates,
        .stale = c->stale,
        .rewinds = c->rewinds,
        .refused = c->refused,
        .clock = &s->clock,
        .checkpoint = &s->checkpoints,
        .requests = s->requests,
        .publications = s->publish,
        .door = &s->door.counters,
    };
}

static void write_metrics(void *arg, struct exposition *x)
{
    const struct service *s = arg;
    const struct server_figures f = figures(s);
    server_metrics_write(&f, x);
    prototype_metrics_write(s->core, s->diagnostics, s->mirror, x);
}

static json_t *write_health(void *arg, bool *ok)
{
    const struct service *s = arg;
    const struct server_figures f = figures(s);
    return server_health(&f, NULL, ok); /* once it stops, this door is closed */
}

static int open_http(struct service *s, struct error *e)
{
    const struct http_metrics_options o = {
        .address = s->config->metrics.prototype, .metrics = write_metrics, .health = write_health, .arg = s};
    return o.address[0] != '\0' ? http_metrics_open(&s->loop, &o, &s->http, e) : 0;
}

static void open_handles(struct service *s)
{
    signal(SIGPIPE, SIG_IGN); /* a Redis that goes away in the middle of a write is an error code, not our end */
    uv_loop_init(&s->loop);
    uv_timer_init(&s->loop, &s->timer);
    uv_signal_init(&s->loop, &s->sigterm);
    uv_signal_init(&s->loop, &s->sigint);
    s->timer.data = s->sigterm.data = s->sigint.data = s;
    s->writer = (struct checkpoint_writer){.loop = &s->loop, .config = s->config, .on_written = on_written, .arg = s};
    s->runner = (struct diagnostics_runner){.loop = &s->loop, .wanted = true, .on_result = on_diagnostics, .arg = s};
}

static void start_handles(struct service *s)
{
    uv_timer_start(&s->timer, on_timer, 0, TIMER_MS);
    uv_signal_start(&s->sigterm, on_signal, SIGTERM);
    uv_signal_start(&s->sigint, on_signal, SIGINT);
}

static int start(struct service *s, bool resume, struct error *e)
{
    int rc = open_core(s, resume, e);
    if (rc == 0)
        rc = prototype_metrics_open(s->config->run.out, &s->metrics, e);
    if (rc == 0)
        rc = open_mirror(s, e);
    if (rc == 0)
        rc = open_sockets(s, e);
    if (rc == 0)
        rc = open_http(s, e);
    if (rc == 0)
        start_handles(s);
    return rc;
}

/* After a failed start: closes what was opened, whatever it was. */
static void abandon(struct service *s)
{
    s->stopping = true;
    net_close(&s->requests);
    net_close(&s->publish);
    http_metrics_close(&s->http);
    door_close(&s->door);
    uv_close((uv_handle_t *)&s->timer, NULL);
    uv_close((uv_handle_t *)&s->sigterm, NULL);
    uv_close((uv_handle_t *)&s->sigint, NULL);
    if (s->mirror != NULL)
        mirror_stop(s->mirror, on_mirror_stopped, s);
}

static void fini(struct service *s)
{
    mirror_free(&s->mirror);
    prototype_core_free(&s->core);
    diagnostics_free(&s->diagnostics);
    prototype_metrics_close(&s->metrics);
    outbox_fini(&s->outbox);
    door_fini(&s->door);
    net_free(&s->net);
    uv_loop_close(&s->loop);
    if (s->lock >= 0)
        close(s->lock);
    free(s);
}

int prototype_service_run(const struct run_config *config, bool resume, struct error *e)
{
    struct service *s = calloc(1, sizeof *s);
    if (s == NULL)
        return error_set(e, ERR_MEMORY, "out of memory");
    s->config = config;
    s->lock = -1;
    open_handles(s);
    int rc = start(s, resume, e);
    if (rc != 0)
        abandon(s);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    if (rc == 0 && s->rc != 0)
        rc = error_set(e, s->rc, "stopped with the state of step %" PRIu64 " not saved", version_of(s));
    fini(s);
    return rc;
}
