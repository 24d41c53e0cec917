/* Everything happens in turns. A message, a tick or a finished part goes into the session; then finish_turn hands
 * new jobs to the threads, sends messages and logs events. */
#include "worker/service.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <uv.h>
#include "common/blas.h"
#include "common/kernels.h"
#include "common/log.h"
#include "common/net.h"
#include "common/net_address.h"
#include "proto/config_wire.h"
#include "proto/keys.h"
#include "worker/compute.h"
#include "worker/heartbeat.h"
#include "worker/numerics.h"
#include "worker/session.h"
#include "worker/slot.h"

/* A launcher that dies may send its children more than one SIGTERM, one for each of its threads. */
#define SIGNAL_ECHO_US (300 * UINT64_C(1000))

enum {
    TIMER_MS = 50,          /* a quarter of the session's shortest wait */
    PUBLISH_HWM = 4,        /* versions replace each other; a lost one is asked for */
    HOST_TEXT_MAX = 64,     /* "host:pid" */
    PROBLEMS_LOGGED = 5,    /* files that could not be read; `decant dataset check` names more */
    LOADING_PACE_MS = 5000, /* between two log lines about how far the load is */
    PACE_MS = 10000         /* between two log lines about failed handshakes */
};
#define WORKER_MESSAGE_BYTES_MAX (INT64_C(1) << 31) /* a full mixture of K = 2^20, D = 256 */

struct service;

struct server_link { /* the two sockets of one server */
    struct service *service;
    enum server server;
    struct net_socket *requests, *publications;
    struct log_pace pace;
};

struct service {
    const struct run_config *config;
    struct dataset train;
    struct slot_shared *shared;
    char host[HOST_TEXT_MAX];
    struct session *session;
    struct compute *compute;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t terminate, interrupt;
    struct net *net;
    struct server_link parameter, prototype;
    unsigned signals;
    uint64_t signal_us; /* of the newest */
    bool closing;
    uint64_t worker; /* its random id */
    char heartbeat[HEARTBEAT_PATH_MAX];
    uint64_t beat_us;   /* of the newest heartbeat; 0 before */
    bool beat_failing;  /* it could not be written */
    struct error error; /* why the worker gives up */
};

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

/* ---- out ---- */

static void send_item(struct service *s, const struct outbox_item *item)
{
    struct net_socket *socket = item->server == SERVER_PROTOTYPE ? s->prototype.requests : s->parameter.requests;
    struct buf *frames[NET_FRAMES_MAX];
    size_t n = 0;
    int rc = msg_encode(&item->msg, frames, &n);
    if (rc == 0)
        rc = net_send(socket, frames, n);
    if (rc != 0) /* whatever matters will be sent again by the session */
        log_debug("event=undelivered type=%s error=%s", msg_type_name(item->msg.type), error_name(rc));
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
}

static void close_all(struct service *s)
{
    s->closing = true;
    compute_close(&s->compute);
    struct net_socket **sockets[] = {&s->parameter.requests, &s->parameter.publications, &s->prototype.requests,
                                     &s->prototype.publications};
    for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++)
        if (*sockets[i])
            net_close(sockets[i]);
    uv_close((uv_handle_t *)&s->timer, NULL);
    uv_close((uv_handle_t *)&s->terminate, NULL);
    uv_close((uv_handle_t *)&s->interrupt, NULL);
    /* libuv no longer catches these signals, and their default would kill the process while it is still closing */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

/* Logs what the session has to say. The last error is kept: it is the cause that the process ends with. */
static void log_events(struct service *s)
{
    struct session_event event;
    while (session_next_event(s->session, &event)) {
        log_ready(event.level, event.text);
        if (event.level == LOG_ERROR)
            error_set(&s->error, session_rejected(s->session) ? ERR_CONFIG : ERR_STATE, "%s", event.text);
    }
}

static void send_all(struct service *s)
{
    struct outbox *out = session_outbox(s->session);
    for (size_t i = 0; i < out->count && !s->closing; i++)
        send_item(s, &out->items[i]);
    outbox_clear(out);
}

/* Before the work is done: the leases in hand are given back, so that nobody waits for them. */
static void leave_early(struct service *s)
{
    if (session_goodbye(s->session) == 0)
        send_all(s);
    close_all(s);
}

/* Leases that wait for a thread or for weights: the images can come meanwhile. */
static void read_ahead(const struct service *s)
{
    uint64_t step;
    uint32_t slot;
    for (uint32_t i = 0; s->train.source && i < session_jobs_max(s->session); i++)
        if (session_queued(s->session, i, &step, &slot))
            slot_read_ahead(s->shared, step, slot);
}

/* Nothing that is computed from the images needs weights until the network does. */
static void draw_ahead(const struct service *s)
{
    uint64_t step;
    uint32_t slot, from = 0;
    for (int64_t i = 0; i < s->config->worker.threads && session_awaiting(s->session, from, &step, &slot); i++) {
        compute_expect(s->compute, step, slot);
        from = slot + 1;
    }
}

/* Ends every turn. rc: what the session returned. Jobs are handed out before anything is sent, so that the threads
 * compute while this one encodes; messages leave before the log is written, because a log may block on its reader;
 * and whether the worker is to end is looked at last, so that the session's goodbyes and its last words have left by
 * then. */
static void finish_turn(struct service *s, int rc)
{
    struct slot_job *job;
    while (!s->closing && (job = session_next_job(s->session)) != NULL)
        compute_submit(s->compute, job);
    read_ahead(s);
    if (!s->closing)
        draw_ahead(s);
    send_all(s);
    log_events(s);
    if (s->closing || (rc == 0 && session_status(s->session) == SESSION_RUNNING))
        return;
    if (rc != 0)
        error_set(&s->error, rc, "the session failed: %s", error_name(rc));
    if (rc == 0 && session_status(s->session) == SESSION_DONE)
        close_all(s);
    else
        leave_early(s);
}

/* ---- in ---- */

/* A server knows another configuration by its hash only; which keys differ is ours to find out. */
static void name_keys(const struct server_link *from, const struct msg *m)
{
    char keys[300];
    if (config_wire_differences(m, from->service->config, keys, sizeof keys) > 0)
        log_error("event=wrong_config server=%s keys=\"%s\" hint=\"the server's value comes first\"",
                  server_name(from->server), keys);
}

static void take_message(const struct server_link *from, struct buf *const *frames, size_t n)
{
    struct service *s = from->service;
    struct msg m;
    struct error detail = {0};
    enum reason why = 0;
    int rc = 0;
    if (s->closing)
        return;
    int decoded = msg_decode(frames, n, &m, &why, &detail);
    if (decoded == 0 && m.type == MSG_ERROR && m.code == REASON_WRONG_CONFIG)
        name_keys(from, &m);
    if (decoded == 0)
        rc = session_on_message(s->session, from->server, &m, now_us());
    else
        log_warn("event=undecodable reason=%s cause=\"%s\"", reason_name(why), detail.text);
    msg_fini(&m);
    finish_turn(s, rc);
}

static void on_reply(void *arg, struct buf **frames, size_t n)
{
    take_message(arg, frames, n);
}

static void on_publication(void *arg, struct buf **frames, size_t n)
{
    if (n >= 2) /* the topic comes first */
        take_message(arg, frames + 1, n - 1);
}

/* A heartbeat that cannot be written must not stop the worker: it is logged once, and tried again. */
static void beat(struct service *s, uint64_t now)
{
    struct session_view v;
    struct error e = {0};
    char line[HEARTBEAT_LINE_MAX];
    if (s->beat_us != 0 && now - s->beat_us < HEARTBEAT_EVERY_MS * 1000)
        return;
    s->beat_us = now;
    session_look(s->session, now, &v);
    snprintf(line, sizeof line,
             "worker=%016" PRIx64 " parameter=%s prototype=%s step=%" PRIu64 " slots_done=%" PRIu64 "\n", s->worker,
             v.parameter_up ? "up" : "silent",
             v.joint          ? "none"
             : v.prototype_up ? "up"
                              : "silent",
             v.step, session_slots_done(s->session));
    if (heartbeat_write(s->heartbeat, line, &e) != 0 && !s->beat_failing)
        log_warn("event=heartbeat_lost cause=\"%s\" hint=\"health checks need it; see worker.heartbeat\"", e.text);
    s->beat_failing = e.code != 0;
}

static void on_timer(uv_timer_t *timer)
{
    struct service *s = timer->data;
    beat(s, now_us());
    finish_turn(s, session_on_timer(s->session, now_us()));
}

static void on_part(void *arg, struct slot_job *job, unsigned part)
{
    struct service *s = arg;
    bool failed = (part == SLOT_PART_A ? job->rc_a : job->rc_b) != 0; /* the other part may be the thread's still */
    struct error e;
    finish_turn(s, part == SLOT_PART_A ? session_on_part_a(s->session, job, now_us())
                                       : session_on_part_b(s->session, job, now_us()));
    if (failed && slot_failure(s->shared, &e))
        s->error = e; /* says more than that a slot failed */
}

/* The first signal finishes what is in hand; the second does not. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct service *s = handle->data;
    if (s->signals > 0 && now_us() - s->signal_us < SIGNAL_ECHO_US)
        return;
    s->signal_us = now_us();
    log_info("event=signal number=%d count=%u", number, ++s->signals);
    if (s->signals == 1)
        finish_turn(s, session_stop(s->session, now_us()));
    else if (!s->closing)
        leave_early(s);
}

/* So that a wrong key does not look like a server that is down. */
static void on_event(void *arg, const struct net_event *event)
{
    struct server_link *l = arg;
    struct service *s = l->service;
    if (s->closing || event->kind == NET_HANDSHAKE_DONE)
        return;
    if (event->kind == NET_DISCONNECTED) {
        log_debug("event=disconnected endpoint=%s", event->endpoint);
        return;
    }
    const char *hint = keys_hint(event, s->config->keys.directory[0] != '\0');
    if (log_due(&l->pace, now_us() / 1000, PACE_MS))
        log_warn("event=handshake_failed kind=%s endpoint=%s hint=\"%s\"", net_event_name(event->kind), event->endpoint,
                 hint);
    if (!keys_hopeless(event))
        return;
    error_set(&s->error, ERR_STATE, "%s: %s", event->endpoint, hint);
    close_all(s);
}

/* ---- start ---- */

/* Logs the first few files that could not be read by name, then how many there are. */
static void log_problems(const struct dataset *d)
{
    for (uint32_t i = 0; i < d->problem_count && i < PROBLEMS_LOGGED; i++)
        if (d->problems[i])
            log_warn("event=data_problem what=\"%s\"", d->problems[i]);
    for (uint32_t i = 0; i < d->note_count; i++)
        log_info("event=data_note what=\"%s\"", d->notes[i]);
    if (d->problem_count > 0)
        log_warn("event=data_problems count=%u images_skipped=%u images=%u hint=\"decant dataset check\"",
                 d->problem_count, d->skipped, d->count);
}

/* A set that takes long says how far it is. */
static void log_progress(void *pace, uint64_t done, uint64_t total)
{
    if (log_due(pace, now_us() / 1000, LOADING_PACE_MS))
        log_info("event=loading_progress images=%" PRIu64 " of=%" PRIu64, done, total);
}

static int load(struct service *s, struct error *e)
{
    const struct run_config *c = s->config;
    struct log_pace pace = {.next_ms = now_us() / 1000 + LOADING_PACE_MS};
    struct dataset_options o = dataset_options_of(c);
    struct error why = {0};
    o.progress = log_progress;
    o.progress_context = &pace;
    log_info("event=loading path=\"%s\"", o.path);
    int rc = dataset_load(&o, DATASET_TRAIN, &s->train, &why);
    if (rc != 0)
        return error_set(e, rc, "%s%.480s", strstr(why.text, "data.") ? "" : "data.path: ", why.text);
    log_problems(&s->train);
    rc = slot_shared_new(c, &s->train, &s->shared, e);
    if (rc == 0) /* the images say how long the run is */
        rc = run_config_check_init(c, slot_total_steps(s->shared), e);
    if (rc == 0)
        log_info("event=loaded format=\"%s\" images=%u holdout=%u size=%ux%ux%u classes=%u data=%014" PRIx64
                 " parameters=%zu total_steps=%" PRIu64,
                 s->train.format, s->train.count, s->train.holdout, s->train.height, s->train.width, s->train.channels,
                 s->train.classes, dataset_fingerprint(&s->train), slot_manifest(s->shared)->parameter_floats,
                 slot_total_steps(s->shared));
    return rc;
}

static void initial(void *context, float *params, float *buffers)
{
    slot_initial(context, params, buffers);
}

static void host_text(char out[HOST_TEXT_MAX])
{
    char host[40] = "unknown";
    gethostname(host, sizeof host - 1);
    snprintf(out, HOST_TEXT_MAX, "%s:%ld", host, (long)getpid());
}

static int open_session(struct service *s, struct error *e)
{
    const struct run_config *c = s->config;
    uint64_t id = 0, numerics;
    host_text(s->host);
    if (numerics_fingerprint(c->encoder.precision, &numerics) != 0)
        return error_set(e, ERR_MEMORY, "no memory for the fingerprint of the arithmetic");
    if (heartbeat_path(c, s->heartbeat) != 0)
        return error_set(e, ERR_CONFIG, "worker.heartbeat: the path is too long");
    while (id == 0)
        if (getrandom(&id, sizeof id, 0) != sizeof id)
            return error_set(e, ERR_IO, "no random bytes for the worker's id");
    s->worker = id;
    struct session_options o = {
        .run = c->run.name,
        .host = s->host,
        .worker = id,
        .config = run_config_hash(c),
        .total_steps = slot_total_steps(s->shared),
        .data = dataset_fingerprint(&s->train),
        .numerics = numerics,
        .slots = (uint32_t)c->run.slots,
        .slot_size = (uint32_t)c->run.slot_size,
        .threads = (uint32_t)c->worker.threads,
        .ahead = (uint32_t)c->worker.ahead,
        .joint = c->loss.prototypes == PROTOTYPES_JOINT,
        .prototype_lag = (uint32_t)c->mixture.prototype_lag,
        .K = (uint32_t)c->mixture.components,
        .D = (uint32_t)c->mixture.dimensions,
        .covariance = c->mixture.covariance,
        .manifest = slot_manifest(s->shared),
        .initial = initial,
        .context = s->shared,
    };
    log_info("event=start worker=%016" PRIx64 " host=%s threads=%u joint=%d kernels=%s blas=%s numerics=%014" PRIx64,
             id, s->host, o.threads, o.joint, kernels_name(kernels_chosen()), blas_kernels(), numerics);
    return session_new(&o, &s->session) == 0 ? 0 : error_set(e, ERR_MEMORY, "no memory for the session");
}

static int open_compute(struct service *s, struct error *e)
{
    struct compute_options o = {
        .shared = s->shared,
        .threads = (uint32_t)s->config->worker.threads,
        .jobs_max = session_jobs_max(s->session),
        .on_part = on_part,
        .arg = s,
    };
    return compute_new(&s->loop, &o, &s->compute, e);
}

/* Subscribes before the first request: whatever is published from now on arrives, and what was published before is
 * asked for. The other way round a version published in between would be missed. */
static int open_server(struct service *s, struct server_link *l, enum server server, const char *requests,
                       const char *publications, struct error *e)
{
    struct net_options sub = {
        .role = NET_SUB, .endpoint = publications, .message_bytes_max = WORKER_MESSAGE_BYTES_MAX, .hwm = PUBLISH_HWM};
    struct net_options dealer = {
        .role = NET_DEALER, .endpoint = requests, .message_bytes_max = WORKER_MESSAGE_BYTES_MAX};
    struct net_curve curve;
    l->service = s;
    l->server = server;
    sub.curve = dealer.curve = &curve;
    sub.on_event = dealer.on_event = on_event;
    sub.event_arg = dealer.event_arg = l;
    int rc = keys_of_client(s->config, "worker", server, &curve, e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &sub, on_publication, l, &l->publications, e);
    if (rc == 0)
        rc = net_subscribe(l->publications, server == SERVER_PARAMETER ? "weights" : "mixture", e);
    if (rc == 0 && server == SERVER_PARAMETER)
        rc = net_subscribe(l->publications, "stop", e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &dealer, on_reply, l, &l->requests, e);
    keys_wipe(&curve);
    return rc;
}

/* What a server may listen on and nobody can connect to; ZeroMQ would try for ever, or not say which key is meant. */
static int check_endpoint(const char *key, const char *endpoint, struct error *e)
{
    static const char tcp[] = "tcp://";
    const char *address = endpoint + sizeof tcp - 1;
    if (strncmp(endpoint, tcp, sizeof tcp - 1) != 0)
        return 0;
    if (strncmp(address, "*:", 2) == 0)
        return error_set(
            e, ERR_CONFIG,
            "%s = %s: all addresses of a server, and none to connect to; a worker needs the host name or an "
            "address of the server's machine",
            key, endpoint);
    if (net_address_is_interface(address))
        return error_set(e, ERR_CONFIG,
                         "%s = %s: an interface, which a server can listen on; a worker needs the host name or an "
                         "address of the server's machine",
                         key, endpoint);
    return 0;
}

static int check_endpoints(const struct run_config *c, struct error *e)
{
    const char *const keys[] = {"net.parameter", "net.parameter_publish", "net.prototype", "net.prototype_publish"};
    const char *const values[] = {c->net.parameter, c->net.parameter_publish, c->net.prototype,
                                  c->net.prototype_publish};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < (c->loss.prototypes == PROTOTYPES_JOINT ? 2u : 4u); i++)
        rc = check_endpoint(keys[i], values[i], e);
    return rc;
}

static int open_servers(struct service *s, struct error *e)
{
    const struct run_config *c = s->config;
    int rc = net_new(&s->net, e);
    if (rc == 0)
        rc = open_server(s, &s->parameter, SERVER_PARAMETER, c->net.parameter, c->net.parameter_publish, e);
    if (rc == 0 && c->loss.prototypes == PROTOTYPES_DECOUPLED)
        rc = open_server(s, &s->prototype, SERVER_PROTOTYPE, c->net.prototype, c->net.prototype_publish, e);
    return rc;
}

/* On a fresh loop only signal handles can fail to initialise, since they need a pipe. */
static int start_handles(struct service *s, struct error *e)
{
    uv_timer_init(&s->loop, &s->timer);
    int rc = uv_signal_init(&s->loop, &s->terminate);
    if (rc == 0)
        rc = uv_signal_init(&s->loop, &s->interrupt);
    ASSERT(rc == 0);
    s->timer.data = s->terminate.data = s->interrupt.data = s;
    rc = uv_timer_start(&s->timer, on_timer, 0, TIMER_MS);
    if (rc == 0)
        rc = uv_signal_start(&s->terminate, on_signal, SIGTERM);
    if (rc == 0)
        rc = uv_signal_start(&s->interrupt, on_signal, SIGINT);
    return rc == 0 ? 0 : error_set(e, ERR_IO, "signals: %s", uv_strerror(rc));
}

static int open_all(struct service *s, struct error *e)
{
    int rc = start_handles(s, e);
    if (rc == 0)
        rc = check_endpoints(s->config, e);
    if (rc == 0)
        rc = load(s, e);
    if (rc == 0)
        rc = open_session(s, e);
    if (rc == 0)
        rc = open_compute(s, e);
    return rc == 0 ? open_servers(s, e) : rc;
}

int worker_service_run(const struct run_config *config, bool *diverged, struct error *e)
{
    struct service s = {.config = config};
    int rc = uv_loop_init(&s.loop);
    if (rc != 0)
        return error_set(e, ERR_IO, "event loop: %s", uv_strerror(rc));
    rc = open_all(&s, e);
    if (rc != 0)
        close_all(&s);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    if (s.beat_us != 0)
        heartbeat_remove(s.heartbeat);
    if (s.session)
        log_info("event=end slots_done=%" PRIu64, session_slots_done(s.session));
    *diverged = s.session && session_diverged(s.session);
    session_free(&s.session);
    net_free(&s.net);
    slot_shared_free(&s.shared);
    dataset_fini(&s.train);
    uv_loop_close(&s.loop);
    return rc == 0 && s.error.code != 0 ? error_set(e, s.error.code, "%s", s.error.text) : rc;
}
