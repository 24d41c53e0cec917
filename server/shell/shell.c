/* Everything happens in turns: bytes, time or a signal go into the core, then the incarnation decides what is due. */
#include "server/shell/shell.h"

#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "common/log.h"
#include "proto/run_dir.h"

/* A launcher that dies may send its children more than one SIGTERM, one for each of its threads. */
enum { SIGNAL_ECHO_MS = 300 };

uint64_t shell_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- out ---- */

static int send_item(struct shell *s, const struct outbox_item *item)
{
    bool to_peer = item->kind == OUT_PEER;
    struct buf *frames[NET_FRAMES_MAX];
    size_t n = 0;
    ASSERT(to_peer || item->kind == OUT_PUBLISH);
    int rc = msg_encode(&item->msg, frames + 1, &n);
    if (rc != 0)
        return rc;
    frames[0] = to_peer ? buf_copy(item->peer.id, item->peer.size) : buf_copy(item->topic, strlen(item->topic));
    rc = frames[0] ? net_send(to_peer ? s->requests : s->publications, frames, n + 1) : ERR_MEMORY;
    for (size_t i = 0; i <= n; i++)
        buf_unref(&frames[i]);
    return rc;
}

/* A message that is lost is asked for again; a core may want to know all the same. */
void shell_send(struct shell *s)
{
    for (size_t i = 0; i < s->outbox.count && !s->closing; i++) {
        const struct outbox_item *item = &s->outbox.items[i];
        int rc = send_item(s, item);
        if (rc == 0)
            continue;
        log_debug("event=undelivered type=%s error=%s", msg_type_name(item->msg.type), error_name(rc));
        if (s->service->on_undelivered)
            s->service->on_undelivered(s->arg, item);
    }
    outbox_clear(&s->outbox);
}

/* ---- the world of the incarnation ---- */

static int raise_generation(void *world, uint64_t *generation, struct error *e)
{
    struct shell *s = world;
    int rc = run_dir_lock_held(s->config, server_name(s->service->server), s->lock, e);
    return rc == 0 ? run_dir_raise_generation(s->config, s->service->server, generation, e) : rc;
}

static uint64_t other_generation(void *world)
{
    const struct shell *s = world;
    return run_dir_generation(s->config, server_other(s->service->server));
}

static bool step_complete(void *world, uint64_t step)
{
    return run_dir_step_complete(((struct shell *)world)->config, step);
}

static bool writing(void *world)
{
    return checkpoint_writer_busy(&((struct shell *)world)->writer);
}

static void send_outbox(void *world)
{
    shell_send(world);
}

static const struct incarnation_world world = {.raise_generation = raise_generation,
                                               .other_generation = other_generation,
                                               .step_complete = step_complete,
                                               .writing = writing,
                                               .send = send_outbox};

/* ---- turns ---- */

static void close_all(struct shell *s)
{
    s->closing = true;
    net_close(&s->requests);
    net_close(&s->publications);
    http_metrics_close(&s->http);
    door_close(&s->door);
    checkpoint_writer_close(&s->writer);
    uv_close((uv_handle_t *)&s->timer, NULL);
    uv_close((uv_handle_t *)&s->terminate, NULL);
    uv_close((uv_handle_t *)&s->interrupt, NULL);
    /* libuv has let go of them: a signal that comes late must not kill what is still being written */
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
}

static const char *reason_of(const struct incarnation *in)
{
    if (in->error.code != 0)
        return "failure";
    return in->settled ? "complete" : "signal";
}

/* What the incarnation has decided, and what those who watch should see of it. A write that is still under way ends
 * first: its snapshot is worth having, whatever the reason to leave. */
static void after_turn(struct shell *s)
{
    uint64_t now = shell_now_ms();
    step_clock_note(&s->clock, s->service->core->step(s->incarnation.o.core_arg), now);
    s->service->after_turn(s->arg, now);
    if (!s->incarnation.leaving || s->closing)
        return;
    if (s->incarnation.error.code != 0)
        checkpoint_writer_give_up(&s->writer);
    if (checkpoint_writer_busy(&s->writer))
        return;
    log_info("event=leaving reason=%s step=%" PRIu64, reason_of(&s->incarnation),
             s->service->core->step(s->incarnation.o.core_arg));
    if (s->service->on_leaving)
        s->service->on_leaving(s->arg, reason_of(&s->incarnation));
    close_all(s);
}

/* Two keys with the same hash could speak for each other's workers: 2^-64, and both are on the list. */
static uint64_t owner_of(const struct net_sender *sender)
{
    return sender->user[0] != '\0' ? XXH3_64bits(sender->user, strlen(sender->user)) : 0;
}

/* The frames are let go before the core sees the message, so that a tensor has one owner and is added up in place. */
static void on_request(void *arg, struct buf **frames, size_t n)
{
    struct shell *s = arg;
    struct peer from = {0};
    struct msg m;
    struct error detail = {0};
    enum reason why = 0;
    if (s->closing || s->incarnation.leaving || n < 2 || frames[0]->size == 0 || frames[0]->size > PEER_ID_MAX)
        return;
    from.size = (uint8_t)frames[0]->size;
    memcpy(from.id, frames[0]->data, from.size);
    from.owner = owner_of(net_sender(s->requests));
    int rc = msg_decode(frames + 1, n - 1, &m, &why, &detail);
    for (size_t i = 1; i < n; i++)
        buf_unref(&frames[i]);
    if (rc == 0 && !door_lets(&s->door, net_sender(s->requests), &m)) {
        rc = error_set(&detail, ERR_STATE, "%s", door_refusal(&s->door, net_sender(s->requests)));
        why = REASON_FORBIDDEN;
    }
    if (rc == 0) {
        incarnation_before_message(&s->incarnation, &m);
        rc = s->service->on_message(s->arg, shell_now_ms(), &from, &m, &s->outbox);
    } else {
        rc = s->service->on_refused(s->arg, &from, &m, why, detail.text, &s->outbox);
    }
    msg_fini(&m);
    incarnation_end_turn(&s->incarnation, shell_now_ms(), rc);
    after_turn(s);
}

/* Subscriptions need no answer: a newcomer asks for what was published before. */
static void on_subscription(void *arg, struct buf **frames, size_t n)
{
    struct shell *s = arg;
    (void)n;
    door_on_subscription(&s->door, net_sender(s->publications), frames[0]);
}

static void on_timer(uv_timer_t *timer)
{
    struct shell *s = timer->data;
    int rc = s->service->on_timer(s->arg, shell_now_ms(), &s->outbox);
    incarnation_on_timer(&s->incarnation, shell_now_ms(), rc);
    after_turn(s);
}

/* The first signal finishes what is begun and saves it; the second also gives up what cannot be saved now. */
static void on_signal(uv_signal_t *handle, int number)
{
    struct shell *s = handle->data;
    uint64_t now = shell_now_ms();
    if (s->incarnation.signals > 0 && now - s->signal_ms < SIGNAL_ECHO_MS)
        return;
    s->signal_ms = now;
    incarnation_on_signal(&s->incarnation, shell_now_ms());
    log_info("event=signal number=%d count=%u", number, s->incarnation.signals);
    if (s->incarnation.signals >= 2) {
        checkpoint_writer_give_up(&s->writer);
        incarnation_end_turn(&s->incarnation, shell_now_ms(), 0);
    }
    after_turn(s);
}

static void on_written(void *arg, uint64_t step, const struct error *result)
{
    struct shell *s = arg;
    if (s->service->on_written)
        s->service->on_written(s->arg, step, result);
    incarnation_on_written(&s->incarnation, shell_now_ms(), result);
    after_turn(s);
}

/* ---- for those who watch ---- */

static struct server_figures figures_of(const struct shell *s)
{
    struct server_figures f = {
        .server = s->service->server,
        .config = s->config,
        .generation = s->incarnation.generation,
        .total_steps = s->service->core->total_steps(s->incarnation.o.core_arg),
        .now_ms = shell_now_ms(),
        .workers = s->service->core->workers(s->incarnation.o.core_arg),
        .clock = &s->clock,
        .checkpoint = &s->writer.record,
        .requests = s->requests,
        .publications = s->publications,
        .door = &s->door,
    };
    s->service->figures(s->arg, &f);
    return f;
}

static void write_metrics(void *arg, struct exposition *x)
{
    const struct shell *s = arg;
    const struct server_figures f = figures_of(s);
    server_metrics_write(&f, x);
    s->service->write_metrics(s->arg, x);
}

/* Without workers a server waits, and is well: to start it again would not help. */
static json_t *write_health(void *arg, bool *ok)
{
    const struct shell *s = arg;
    const struct server_figures f = figures_of(s);
    return server_health(&f, incarnation_complaint(&s->incarnation), ok);
}

static int open_http(struct shell *s, struct error *e)
{
    bool parameter = s->service->server == SERVER_PARAMETER;
    const struct http_metrics_options o = {.address =
                                               parameter ? s->config->metrics.parameter : s->config->metrics.prototype,
                                           .metrics = write_metrics,
                                           .health = write_health,
                                           .arg = s};
    return o.address[0] != '\0' ? http_metrics_open(&s->loop, &o, &s->http, e) : 0;
}

/* ---- start ---- */

static int open_state(struct shell *s, void *core_arg, bool resume, struct error *e)
{
    const struct incarnation_options o = {.server = s->service->server,
                                          .core = s->service->core,
                                          .core_arg = core_arg,
                                          .world = &world,
                                          .world_arg = s,
                                          .patience = s->service->patience};
    int rc = run_dir_lock(s->config, server_name(s->service->server), &s->lock, e);
    s->writer.lock = s->lock;
    if (rc == 0 && !resume)
        rc = run_dir_start_over(s->config, e);
    if (rc == 0)
        rc = incarnation_start(&s->incarnation, &o, resume, e);
    if (rc != 0)
        return rc;
    uint64_t step = s->service->core->step(core_arg);
    step_clock_start(&s->clock, step, shell_now_ms());
    checkpoint_record_start(&s->writer.record, step, shell_now_ms());
    return 0;
}

static int open_sockets(struct shell *s, struct error *e)
{
    const struct shell_service *v = s->service;
    bool parameter = v->server == SERVER_PARAMETER;
    struct net_options requests = {.role = NET_ROUTER,
                                   .endpoint = parameter ? s->config->net.parameter : s->config->net.prototype,
                                   .message_bytes_max = v->request_bytes_max,
                                   .queued_bytes_max = DOOR_QUEUED_BYTES_MAX,
                                   .curve = &s->door.curve,
                                   .on_event = door_on_event,
                                   .event_arg = &s->door.requests};
    struct net_options publications = {.role = NET_XPUB,
                                       .endpoint = parameter ? s->config->net.parameter_publish
                                                             : s->config->net.prototype_publish,
                                       .message_bytes_max = v->subscription_bytes_max,
                                       .queued_bytes_max = DOOR_QUEUED_BYTES_MAX,
                                       .hwm = v->publish_hwm,
                                       .curve = &s->door.curve,
                                       .on_event = door_on_event,
                                       .event_arg = &s->door.publications};
    int rc = net_new(&s->net, e);
    if (rc == 0)
        rc = door_open(&s->door, s->net, &s->loop, s->config, v->server, e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &requests, on_request, s, &s->requests, e);
    if (rc == 0)
        rc = net_open(s->net, &s->loop, &publications, on_subscription, s, &s->publications, e);
    door_opened(&s->door);
    if (rc == 0)
        log_info("event=listening requests=%s publications=%s generation=%" PRIu64 " step=%" PRIu64,
                 net_endpoint(s->requests), net_endpoint(s->publications), s->incarnation.generation, s->clock.step);
    return rc;
}

int shell_init(struct shell *s, const struct shell_service *service, void *arg, const struct run_config *config,
               struct error *e)
{
    *s = (struct shell){.service = service, .arg = arg, .config = config, .lock = -1};
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away in the middle of a write is an error code, not our end */
    signal(SIGXFSZ, SIG_IGN); /* so is a file that may not grow */
    int rc = uv_loop_init(&s->loop);
    if (rc != 0)
        return error_set(e, ERR_IO, "event loop: %s", uv_strerror(rc));
    uv_timer_init(&s->loop, &s->timer);
    rc = uv_signal_init(&s->loop, &s->terminate);
    if (rc == 0)
        rc = uv_signal_init(&s->loop, &s->interrupt);
    ASSERT(rc == 0); /* of a fresh loop: only the pipe of the first could be missing, and the loop has it */
    s->timer.data = s->terminate.data = s->interrupt.data = s;
    checkpoint_writer_init(&s->writer, &s->loop, config, service->checkpoints, on_written, s);
    rc = uv_signal_start(&s->terminate, on_signal, SIGTERM); /* from here on: heard when the loop runs */
    if (rc == 0)
        rc = uv_signal_start(&s->interrupt, on_signal, SIGINT);
    return rc == 0 ? 0 : error_set(e, ERR_IO, "signals: %s", uv_strerror(rc));
}

int shell_run(struct shell *s, void *core_arg, bool resume, struct error *e)
{
    int rc = open_state(s, core_arg, resume, e);
    if (rc == 0)
        rc = s->service->open(s->arg, resume, e);
    if (rc == 0)
        rc = open_sockets(s, e);
    if (rc == 0)
        rc = open_http(s, e);
    if (rc == 0)
        uv_timer_start(&s->timer, on_timer, 0, s->service->timer_ms);
    if (rc != 0) {
        if (s->service->on_leaving)
            s->service->on_leaving(s->arg, "failure");
        close_all(s);
    }
    uv_run(&s->loop, UV_RUN_DEFAULT);
    const struct error *written = checkpoint_writer_result(&s->writer);
    if (rc == 0 && s->incarnation.error.code != 0)
        return error_set(e, s->incarnation.error.code, "%s", s->incarnation.error.text);
    if (rc == 0 && written->code != 0)
        return error_set(e, written->code, "the newest checkpoint was not written: %s", written->text);
    return rc;
}

void shell_fini(struct shell *s)
{
    outbox_fini(&s->outbox);
    door_fini(&s->door);
    net_free(&s->net);
    uv_loop_close(&s->loop);
    if (s->lock >= 0)
        close(s->lock);
}
