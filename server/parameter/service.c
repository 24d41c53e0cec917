/* Everything happens in turns: bytes or time go into the core, what it says goes out, and what is due is picked up. */
#include "server/parameter/service.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "common/files.h"
#include "common/http_metrics.h"
#include "common/log.h"
#include "common/net.h"
#include "server/shell/door.h"
#include "server/shell/pairing.h"
#include "proto/run_dir.h"
#include "server/parameter/checkpoint_writer.h"
#include "server/parameter/encoder_checkpoint.h"
#include "server/parameter/core.h"
#include "server/parameter/prometheus.h"

struct service {
    const struct run_config *config;
    uint64_t generation;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t terminate, interrupt;
    struct net *net;
    struct door door;
    struct net_socket *requests, *publications;
    struct parameter_core *core;
    struct outbox outbox;
    struct checkpoint_writer writer;
    struct http_metrics *http; /* NULL when metrics.parameter is empty */
    struct step_clock clock;
    FILE *metrics;       /* NULL after a failed write: metrics are an observer */
    unsigned signals;    /* SIGTERM and SIGINT so far */
    uint64_t stopped_ms; /* when the core stopped; 0 before */
    bool was_complete;   /* resumed at step T: workers may come that do not know that it is over */
    uint64_t visited_ms; /* then: when a worker was last here; 0 = none yet */
    uint64_t waiting_ms; /* for the other file of step T: since when, or when that was last said; 0 = not */
    bool directory_ours; /* its checkpoints are of this run: it was resumed, or has gone back, from them */
    bool end_unsound;    /* step T is there, but could not be read */
    int lock;            /* of the run's directory; -1 before it is held */
    struct pairing pairing;
    uint64_t rewinds_refused;
    bool closing;
    struct error error; /* why the run ends early */
};

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- out ---- */

static int send_item(struct service *s, const struct outbox_item *item)
{
    bool to_peer = item->kind == OUT_PEER;
    struct buf *frames[NET_FRAMES_MAX];
    size_t n = 0;
    int rc = msg_encode(&item->msg, frames + 1, &n);
    if (rc != 0)
        return rc;
    frames[0] = to_peer ? buf_copy(item->peer.id, item->peer.size) : buf_copy(item->topic, strlen(item->topic));
    rc = frames[0] ? net_send(to_peer ? s->requests : s->publications, frames, n + 1) : ERR_MEMORY;
    for (size_t i = 0; i <= n; i++)
        buf_unref(&frames[i]);
    return rc;
}

static void send_all(struct service *s)
{
    for (size_t i = 0; i < s->outbox.count; i++) {
        const struct outbox_item *item = &s->outbox.items[i];
        int rc = send_item(s, item);
        if (rc == 0)
            continue;
        log_debug("event=undelivered type=%s error=%s", msg_type_name(item->msg.type), error_name(rc));
        parameter_core_on_undelivered(s->core, item);
    }
    outbox_clear(&s->outbox);
}

static void write_report(struct service *s, const struct step_report *r)
{
    char *line = step_report_to_json(r);
    bool written = line && s->metrics && fprintf(s->metrics, "%s\n", line) > 0 && fflush(s->metrics) == 0;
    free(line);
    log_info("event=step step=%" PRIu64 " loss=%.5g grad_norm=%.4g lr=%.4g step_ms=%.4g images_per_s=%.4g workers=%.0f",
             r->step, r->loss, r->grad_norm, r->lr, r->step_ms, r->images_per_s, r->workers);
    if (written || s->metrics == NULL)
        return;
    log_error("event=metrics_lost hint=\"could not write to metrics-parameter.jsonl; no more metrics there\"");
    fclose(s->metrics);
    s->metrics = NULL;
}

/* ---- the end ---- */

static void close_all(struct service *s)
{
    s->closing = true;
    net_close(&s->requests);
    net_close(&s->publications);
    http_metrics_close(&s->http);
    door_close(&s->door);
    uv_close((uv_handle_t *)&s->timer, NULL);
    uv_close((uv_handle_t *)&s->terminate, NULL);
    uv_close((uv_handle_t *)&s->interrupt, NULL);
    /* libuv has let go of them: a signal that comes late must not kill what is being written */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

/* A run that was over before this process began: whoever comes is told, and leaves. Some may still be starting. */
static bool visitors_left(struct service *s, uint64_t now)
{
    if (parameter_core_workers(s->core) > 0)
        s->visited_ms = now;
    if (s->visited_ms == 0)
        return now - s->stopped_ms >= PARAMETER_VISIT_MS;
    return now - s->visited_ms >= PARAMETER_FAREWELL_MS;
}

/* Everybody has heard that it is over, or has had the time to. */
static bool heard(struct service *s)
{
    uint64_t now = now_ms(), waited = now - s->stopped_ms;
    if (s->signals >= 2 || (s->signals == 1 && s->was_complete))
        return true;
    if (parameter_core_finished(s->core) && s->was_complete)
        return visitors_left(s, now);
    if (parameter_core_finished(s->core))
        return parameter_core_workers(s->core) == 0 || waited >= PARAMETER_FAREWELL_MS;
    return waited >= PARAMETER_LINGER_MS;
}

static void leave_when_done(struct service *s)
{
    if (s->closing || !parameter_core_stopped(s->core))
        return;
    if (s->stopped_ms == 0)
        s->stopped_ms = now_ms();
    if (!checkpoint_writer_idle(&s->writer) || !heard(s))
        return;
    if (checkpoint_writer_result(&s->writer) != 0)
        s->error = s->writer.error;
    close_all(s);
}

static void fail(struct service *s, int rc, const char *what)
{
    if (s->closing)
        return;
    error_set(&s->error, rc, "step %" PRIu64 ": %s; resume from the newest checkpoint", parameter_core_step(s->core),
              what);
    close_all(s);
}

/* The newest checkpoint at or below step_max into the core, under a new generation; none: the start. */
static int rewind_to(struct service *s, uint64_t step_max, struct error *e)
{
    struct encoder_state state;
    int rc = run_dir_lock_held(s->config, server_name(SERVER_PARAMETER), s->lock, e);
    if (rc == 0)
        rc = run_dir_raise_generation(s->config, SERVER_PARAMETER, &s->generation, e);
    if (rc != 0)
        return rc;
    rc = encoder_checkpoint_resume(s->config, step_max, &state, e);
    bool none = rc == ERR_NOT_FOUND;
    if (rc != 0 && !none)
        return rc;
    s->directory_ours = true;
    uint64_t prototype = run_dir_generation(s->config, SERVER_PROTOTYPE);
    rc = parameter_core_rewind(s->core, now_ms(), s->generation, none ? NULL : &state, &s->outbox);
    pairing_begin(&s->pairing, prototype, parameter_core_step(s->core));
    log_warn("event=rewound step=%" PRIu64 " generation=%" PRIu64, parameter_core_step(s->core), s->generation);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the checkpoint");
}

static bool may_go_back(struct service *s)
{
    if (pairing_may_go_back(&s->pairing, run_dir_generation(s->config, SERVER_PROTOTYPE)))
        return true;
    uint64_t count = ++s->rewinds_refused;
    if ((count & (count - 1)) == 0)
        log_warn("event=rewind_refused count=%" PRIu64 " cause=\"the prototype server has not started anew\"", count);
    return false;
}

/* Step T can be whole on disk while this server stands before it: files that were still being written when it went
 * back. The prototype server leaves as soon as it reads them, so the run ends with them here too. */
static void jump_to_the_end(struct service *s)
{
    struct error e = {0};
    uint64_t total = parameter_core_total_steps(s->core);
    bool before = total > 0 && parameter_core_step(s->core) < total && !parameter_core_stopped(s->core);
    if (!before || !s->directory_ours || s->end_unsound || s->closing || !run_dir_step_complete(s->config, total))
        return;
    int rc = rewind_to(s, total, &e);
    s->end_unsound = parameter_core_step(s->core) < total;
    if (rc != 0)
        fail(s, rc, e.text);
}

/* Says STOP once the run cannot fall back any more: every file of step T is on disk. */
static int settle_end(struct service *s)
{
    uint64_t now = now_ms(), step = parameter_core_step(s->core);
    if (!parameter_core_awaits_durable(s->core) || !checkpoint_writer_idle(&s->writer))
        return 0;
    if (run_dir_step_complete(s->config, step))
        return parameter_core_on_durable(s->core, now, &s->outbox);
    if (s->waiting_ms != 0 && now - s->waiting_ms >= PARAMETER_WAITING_MS)
        log_warn("event=waiting_for_mixture step=%" PRIu64
                 " hint=\"the last step's mixture.safetensors is missing: does the prototype server run, with the same "
                 "run.out?\"",
                 step);
    if (s->waiting_ms == 0 || now - s->waiting_ms >= PARAMETER_WAITING_MS)
        s->waiting_ms = now;
    return 0;
}

/* Ends every turn. rc: what the core said. */
static void finish_turn(struct service *s, int rc)
{
    struct encoder_state state;
    struct step_report report;
    struct error e = {0};
    uint64_t step_max;
    if (pairing_due(&s->pairing, parameter_core_step(s->core)))
        pairing_note(&s->pairing, run_dir_generation(s->config, SERVER_PROTOTYPE), parameter_core_step(s->core));
    if (parameter_core_take_rewind(s->core, &step_max) && may_go_back(s) && rewind_to(s, step_max, &e) != 0)
        fail(s, e.code, e.text);
    step_clock_note(&s->clock, parameter_core_step(s->core), now_ms());
    send_all(s);
    if (parameter_core_take_checkpoint(s->core, &state))
        checkpoint_writer_submit(&s->writer, &state);
    if (parameter_core_take_report(s->core, &report))
        write_report(s, &report);
    if (rc != 0)
        fail(s, rc, error_name(rc));
    leave_when_done(s);
}

/* ---- in ---- */

/* The frames are let go before the core sees the message, so that a gradient has one owner and is added up in place. */
static void on_request(void *arg, struct buf **frames, size_t n)
{
    struct service *s = arg;
    struct peer from = {0};
    struct msg m;
    struct error detail = {0};
    enum reason why = 0;
    if (s->closing || n < 2 || frames[0]->size == 0 || frames[0]->size > PEER_ID_MAX)
        return;
    from.size = (uint8_t)frames[0]->size;
    memcpy(from.id, frames[0]->data, from.size);
    int rc = msg_decode(frames + 1, n - 1, &m, &why, &detail);
    for (size_t i = 1; i < n; i++)
        buf_unref(&frames[i]);
    if (rc == 0 && !door_lets(&s->door, net_sender(s->requests), &m)) {
        rc = error_set(&detail, ERR_STATE, "%s", "the role of this key does not include that");
        why = REASON_FORBIDDEN;
    }
    if (rc == 0 && parameter_core_doubts_lineage(s->core, &m))
        parameter_core_bound_lineage(s->core, run_dir_generation(s->config, SERVER_PROTOTYPE));
    if (rc == 0)
        rc = parameter_core_on_message(s->core, now_ms(), &from, &m, &s->outbox);
    else
        rc = parameter_core_on_undecodable(s->core, &from, &m, why, detail.text, &s->outbox);
    msg_fini(&m);
    finish_turn(s, rc);
}

/* Subscriptions need no answer: a newcomer asks for the weights. */
static void on_subscription(void *arg, struct buf **frames, size_t n)
{
    struct service *s = arg;
    door_on_subscriber(&s->door, net_sender(s->publications));
    (void)frames;
    (void)n;
}

static void on_timer(uv_timer_t *timer)
{
    struct service *s = timer->data;
    int rc = parameter_core_on_timer(s->core, now_ms(), &s->outbox);
    if (rc == 0)
        jump_to_the_end(s);
    finish_turn(s, rc == 0 ? settle_end(s) : rc);
}

/* The first signal drains; the second drops the partial step. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct service *s = handle->data;
    s->signals++;
    log_info("event=signal number=%d count=%u", number, s->signals);
    int rc = s->signals == 1 ? parameter_core_drain(s->core, now_ms(), &s->outbox)
                             : parameter_core_stop(s->core, now_ms(), &s->outbox);
    finish_turn(s, rc);
}

static void on_checkpoint_idle(void *arg)
{
    struct service *s = arg;
    int result = checkpoint_writer_result(&s->writer);
    bool outside = result == ERR_STATE; /* run.out is another's by now */
    bool lost = parameter_core_awaits_durable(s->core) && result != 0;
    if (outside || lost)
        fail(s, result, s->writer.error.text); /* without the last one the run is not over */
    else if (!s->closing)
        finish_turn(s, settle_end(s));
}

/* ---- for those who watch ---- */

static struct server_figures figures(const struct service *s)
{
    const struct step_report_counters *c = parameter_core_counters(s->core);
    return (struct server_figures){
        .server = SERVER_PARAMETER,
        .config = s->config,
        .generation = s->generation,
        .total_steps = parameter_core_total_steps(s->core),
        .now_ms = now_ms(),
        .workers = parameter_core_workers(s->core),
        .applied = c->applied,
        .duplicates = c->duplicates,
        .stale = c->stale,
        .rewinds = c->rewinds,
        .refused = c->refused,
        .clock = &s->clock,
        .checkpoint = &s->writer.record,
        .requests = s->requests,
        .publications = s->publications,
        .door = &s->door.counters,
    };
}

static void write_metrics(void *arg, struct exposition *x)
{
    const struct service *s = arg;
    const struct server_figures f = figures(s);
    server_metrics_write(&f, x);
    parameter_metrics_write(s->core, s->config, x);
}

/* Without workers the server waits, and is well: to start it again would not help. */
static json_t *write_health(void *arg, bool *ok)
{
    const struct service *s = arg;
    const struct server_figures f = figures(s);
    const char *reason = NULL;
    if (s->signals > 0 || parameter_core_stopped(s->core))
        reason = "stopping";
    else if (s->waiting_ms != 0)
        reason = "the last step's mixture.safetensors is missing: does the prototype server run?";
    return server_health(&f, reason, ok);
}

static int open_http(struct service *s, struct error *e)
{
    const struct http_metrics_options o = {
        .address = s->config->metrics.parameter, .metrics = write_metrics, .health = write_health, .arg = s};
    return o.address[0] != '\0' ? http_metrics_open(&s->loop, &o, &s->http, e) : 0;
}

/* ---- start ---- */

static int resume_core(struct service *s, struct error *e)
{
    struct encoder_state state;
    int rc = encoder_checkpoint_resume(s->config, UINT64_MAX, &state, e);
    if (rc == ERR_NOT_FOUND) {
        log_warn("event=resume_from_nothing cause=\"%s\"", e->text);
        return 0;
    }
    if (rc != 0)
        return rc;
    log_info("event=resumed step=%" PRIu64 " total_steps=%" PRIu64, state.step, state.total_steps);
    s->was_complete = state.step == state.total_steps;
    rc = parameter_core_resume(s->core, &state);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the checkpoint");
}

/* A fresh run starts a fresh file; a resumed one goes on in the old, where the last line of a step counts. */
static int open_metrics(struct service *s, bool resume, struct error *e)
{
    char path[1280];
    if (path_format(path, sizeof path, "%s/metrics-parameter.jsonl", s->config->run.out) != 0)
        return error_set(e, ERR_RANGE, "run.out = %s: the path is too long", s->config->run.out);
    s->metrics = fopen(path, resume ? "a" : "w");
    return s->metrics ? 0 : error_set(e, ERR_IO, "open %s: %s", path, strerror(errno));
}

static int open_state(struct service *s, bool resume, struct error *e)
{
    int rc = run_dir_lock(s->config, server_name(SERVER_PARAMETER), &s->lock, e);
    s->writer.lock = s->lock;
    if (rc == 0)
        rc = run_dir_raise_generation(s->config, SERVER_PARAMETER, &s->generation, e);
    if (rc == 0 && (rc = parameter_core_new(s->config, s->generation, &s->core)) != 0)
        error_set(e, rc, "out of memory");
    s->directory_ours = resume;
    uint64_t prototype = run_dir_generation(s->config, SERVER_PROTOTYPE);
    if (rc == 0)
        rc = resume ? resume_core(s, e) : run_dir_start_over(s->config, e);
    if (rc == 0) {
        parameter_core_bound_lineage(s->core, prototype);
        pairing_begin(&s->pairing, prototype, parameter_core_step(s->core));
    }
    if (rc == 0) {
        step_clock_start(&s->clock, parameter_core_step(s->core), now_ms());
        checkpoint_record_start(&s->writer.record, parameter_core_step(s->core), now_ms());
    }
    return rc == 0 ? open_metrics(s, resume, e) : rc;
}

static int open_sockets(struct service *s, struct error *e)
{
    struct net_options requests = {.role = NET_ROUTER,
                                   .endpoint = s->config->net.parameter,
                                   .message_bytes_max = PARAMETER_MESSAGE_BYTES_MAX,
                                   .curve = &s->door.curve,
                                   .on_event = door_on_event,
                                   .event_arg = &s->door};
    struct net_options publications = {.role = NET_XPUB,
                                       .endpoint = s->config->net.parameter_publish,
                                       .message_bytes_max = MSG_HEADER_MAX,
                                       .hwm = PARAMETER_PUBLISH_HWM,
                                       .curve = &s->door.curve,
                                       .on_event = door_on_event,
                                       .event_arg = &s->door};
    int rc = net_new(&s->net, e);
    if (rc == 0)
        rc = door_open(&s->door, s->net, &s->loop, s->config, SERVER_PARAMETER, e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &requests, on_request, s, &s->requests, e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &publications, on_subscription, s, &s->publications, e);
    door_opened(&s->door);
    if (rc == 0)
        log_info("event=listening requests=%s publications=%s generation=%" PRIu64 " step=%" PRIu64,
                 net_endpoint(s->requests), net_endpoint(s->publications), s->generation, parameter_core_step(s->core));
    return rc;
}

/* Handles on a fresh loop: their initialisation cannot fail, but for signals, which take a pipe. */
static int start_handles(struct service *s, struct error *e)
{
    uv_timer_init(&s->loop, &s->timer);
    int rc = uv_signal_init(&s->loop, &s->terminate);
    if (rc == 0)
        rc = uv_signal_init(&s->loop, &s->interrupt);
    ASSERT(rc == 0);
    s->timer.data = s->terminate.data = s->interrupt.data = s;
    rc = uv_timer_start(&s->timer, on_timer, PARAMETER_TIMER_MS, PARAMETER_TIMER_MS);
    if (rc == 0)
        rc = uv_signal_start(&s->terminate, on_signal, SIGTERM);
    if (rc == 0)
        rc = uv_signal_start(&s->interrupt, on_signal, SIGINT);
    return rc == 0 ? 0 : error_set(e, ERR_IO, "signals: %s", uv_strerror(rc));
}

static void release_all(struct service *s)
{
    if (s->metrics != NULL)
        fclose(s->metrics);
    parameter_core_free(&s->core);
    outbox_fini(&s->outbox);
    door_fini(&s->door);
    net_free(&s->net);
    if (s->lock >= 0)
        close(s->lock);
}

int parameter_service_run(const struct run_config *config, bool resume, struct error *e)
{
    struct service s = {.config = config, .lock = -1};
    int rc = uv_loop_init(&s.loop);
    if (rc != 0)
        return error_set(e, ERR_IO, "event loop: %s", uv_strerror(rc));
    checkpoint_writer_init(&s.writer, &s.loop, config, on_checkpoint_idle, &s);
    rc = start_handles(&s, e);
    if (rc == 0)
        rc = open_state(&s, resume, e);
    if (rc == 0)
        rc = open_sockets(&s, e);
    if (rc == 0)
        rc = open_http(&s, e);
    if (rc != 0)
        close_all(&s);
    uv_run(&s.loop, UV_RUN_DEFAULT);
    release_all(&s);
    uv_loop_close(&s.loop);
    if (rc == 0 && s.error.code != 0)
        rc = error_set(e, s.error.code, "%s", s.error.text);
    return rc;
}
