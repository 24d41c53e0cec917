/* A turn of a worker is that of worker/service.c: something goes into its session; then a job begins, messages leave.
 * The difference is the executor, a timer, and that everything is noted as it passes. */
#include "tests/bench/load/fleet.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "common/log.h"
#include "common/net.h"
#include "worker/session.h"

enum {
    TIMER_MS = 50,
    STUCK_MS = 60000, /* without a step */
    PUBLISH_HWM = 4,  /* both as in worker/service.c */
    NOTES_MAX = 64,   /* contributions of a worker under way */
    METRICS_BYTES_MAX = 65536,
    STATS_AT = 40 /* per cent of a slot's time until its statistics leave: augmentation, teacher, E-step */
};
#define MESSAGE_BYTES_MAX (INT64_C(1) << 31)

struct fleet;
struct player;

struct player_link {
    struct player *player;
    enum server server;
    struct net_socket *requests, *publications;
};

struct note { /* of one slot in hand */
    bool used, acknowledged, published;
    uint64_t step;
    uint32_t slot;
    uint64_t leased_us, stats_us, gradient_us; /* 0: not yet */
};

struct player { /* a worker */
    struct fleet *fleet;
    struct session *session;
    struct player_link parameter, prototype;
    uv_timer_t tick, executor;
    struct slot_job *job; /* with the executor */
    bool part_a_done;
    uint64_t part_b_us;    /* when it is done */
    uint64_t weights_step; /* newest seen, + 1 */
    uint64_t job_step;     /* of the newest job */
    uint32_t jobs_in_step; /* begun */
    struct note notes[NOTES_MAX];
    bool over;
};

struct fleet {
    const struct fleet_options *o;
    struct fleet_result *result;
    uv_loop_t loop;
    uv_timer_t limit;
    struct net *net;
    struct net_socket *metrics;
    struct player *players;
    uint32_t open; /* players that go on */
    bool closing, measuring;
    uint64_t seen;                 /* steps whose weights somebody has, + 1 */
    uint64_t clock_us, clock_step; /* of the rate: when that step was to begin; 0 = not running */
    uint64_t begin_us, begin_step; /* of the measured span */
    double begin_bytes[4];         /* parameter in, out, prototype in, out */
    struct usage begin_usage[3];   /* parameter, prototype, generator */
    double begin_machine;
    struct error error;
};

static uint64_t now_us(void)
{
    return uv_hrtime() / 1000;
}

/* ---- the measured span ---- */

static void count_bytes(const struct fleet *f, double bytes[4])
{
    memset(bytes, 0, 4 * sizeof *bytes);
    for (uint32_t i = 0; i < f->o->workers; i++) {
        const struct player_link *links[] = {&f->players[i].parameter, &f->players[i].prototype};
        for (int l = 0; l < 2; l++) {
            if (links[l]->requests == NULL || links[l]->publications == NULL)
                continue;
            const struct net_counters *r = net_socket_counters(links[l]->requests),
                                      *p = net_socket_counters(links[l]->publications);
            bytes[2 * l] += (double)r->bytes_out;
            bytes[2 * l + 1] += (double)(r->bytes_in + p->bytes_in);
        }
    }
}

static void read_usage(const struct fleet *f, struct usage usage[3])
{
    const pid_t pids[3] = {f->o->parameter, f->o->prototype, getpid()};
    for (int i = 0; i < 3; i++)
        if (pids[i] != 0)
            usage_read(pids[i], &usage[i]);
}

static void begin_span(struct fleet *f, uint64_t now)
{
    f->measuring = true;
    f->begin_us = f->clock_us = now;
    f->begin_step = f->clock_step = f->seen - 1;
    count_bytes(f, f->begin_bytes);
    read_usage(f, f->begin_usage);
    f->begin_machine = usage_machine();
}

static void end_span(struct fleet *f)
{
    struct fleet_result *r = f->result;
    struct usage usage[3] = {0};
    double bytes[4];
    r->step = f->seen ? f->seen - 1 : 0;
    if (!f->measuring)
        return;
    f->measuring = false;
    count_bytes(f, bytes);
    read_usage(f, usage);
    r->seconds = (double)(now_us() - f->begin_us) * 1e-6;
    r->steps = f->seen - 1 - f->begin_step;
    struct fleet_server *servers[] = {&r->parameter, &r->prototype};
    for (int i = 0; i < 2; i++) {
        servers[i]->cpu = usage_between(&f->begin_usage[i], &usage[i]);
        servers[i]->bytes_in = bytes[2 * i] - f->begin_bytes[2 * i];
        servers[i]->bytes_out = bytes[2 * i + 1] - f->begin_bytes[2 * i + 1];
    }
    r->generator = usage_between(&f->begin_usage[2], &usage[2]);
    r->others =
        usage_machine() - f->begin_machine - r->generator.seconds - r->parameter.cpu.seconds - r->prototype.cpu.seconds;
    r->others = r->others > 0 ? r->others : 0;
}

/* ---- closing ---- */

static void close_timer(uv_timer_t *t)
{
    if (!uv_is_closing((uv_handle_t *)t))
        uv_close((uv_handle_t *)t, NULL);
}

static void close_player(struct player *p)
{
    close_timer(&p->tick);
    close_timer(&p->executor);
    net_close(&p->parameter.requests);
    net_close(&p->parameter.publications);
    net_close(&p->prototype.requests);
    net_close(&p->prototype.publications);
}

/* Players close together: until then their sockets go on reading, as others' would. */
static void close_all(struct fleet *f)
{
    if (f->closing)
        return;
    end_span(f);
    f->closing = true;
    for (uint32_t i = 0; i < f->o->workers; i++)
        close_player(&f->players[i]);
    net_close(&f->metrics);
    close_timer(&f->limit);
}

static void end_player(struct player *p)
{
    struct fleet *f = p->fleet;
    if (p->over)
        return;
    p->over = true;
    if (session_status(p->session) == SESSION_DONE)
        f->result->done++;
    else
        f->result->failed++;
    if (--f->open == 0)
        close_all(f);
}

/* ---- notes ---- */

static struct note *find_note(struct player *p, uint64_t step, uint32_t slot)
{
    for (int i = 0; i < NOTES_MAX; i++)
        if (p->notes[i].used && p->notes[i].step == step && p->notes[i].slot == slot)
            return &p->notes[i];
    return NULL;
}

static void add_sample(struct fleet *f, struct samples *s, uint64_t from_us, uint64_t to_us)
{
    if (f->measuring && from_us >= f->begin_us)
        samples_add(s, (double)(to_us - from_us) * 1e-6);
}

static void settle_note(struct note *n)
{
    if (n->published && (n->acknowledged || n->gradient_us == 0))
        n->used = false;
}

static void note_lease(struct player *p, const struct msg *m, uint64_t now)
{
    for (int i = 0; i < NOTES_MAX; i++) {
        if (p->notes[i].used)
            continue;
        p->notes[i] = (struct note){.used = true, .step = m->step, .slot = m->slot, .leased_us = now};
        return;
    }
}

static void on_limit(uv_timer_t *timer);

/* Somebody is the first to see the weights of a step. The span begins and ends at such moments. */
static void on_new_step(struct fleet *f, uint64_t seen, uint64_t now)
{
    f->seen = seen;
    uv_timer_start(&f->limit, on_limit, STUCK_MS, 0);
    if (f->clock_us == 0)
        f->clock_us = now;
    if (!f->measuring && f->begin_us == 0 && (double)(now - f->clock_us) >= f->o->warm_s * 1e6)
        begin_span(f, now);
    else if (f->measuring && (double)(now - f->begin_us) >= f->o->seconds * 1e6)
        close_all(f);
}

static void note_weights(struct player *p, const struct msg *m, uint64_t now)
{
    struct fleet *f = p->fleet;
    if (m->step + 1 <= p->weights_step)
        return;
    p->weights_step = m->step + 1;
    if (p->weights_step > f->seen)
        on_new_step(f, p->weights_step, now);
    for (int i = 0; i < NOTES_MAX; i++) {
        struct note *n = &p->notes[i];
        if (!n->used || n->published || n->step >= m->step)
            continue;
        n->published = true;
        add_sample(f, &f->result->lease_to_weights, n->leased_us, now);
        if (n->gradient_us != 0)
            add_sample(f, &f->result->sync, n->gradient_us, now);
        settle_note(n);
    }
}

static void note_ack(struct player *p, enum server from, const struct msg *m, uint64_t now)
{
    struct fleet_result *r = p->fleet->result;
    struct note *n = m->slots == 1 ? find_note(p, m->step, m->slot) : NULL;
    if (n == NULL) /* of INIT */
        return;
    uint64_t *counts[] = {&r->applied, &r->duplicates, &r->stale};
    if (m->code <= ACK_STALE)
        ++*counts[m->code];
    if (from == SERVER_PROTOTYPE) {
        add_sample(p->fleet, &r->stats_ack, n->stats_us, now);
        return;
    }
    add_sample(p->fleet, &r->ack, n->gradient_us, now);
    n->acknowledged = true;
    settle_note(n);
}

static void note_message(struct player *p, enum server from, const struct msg *m, uint64_t now)
{
    if (m->type == MSG_LEASE)
        note_lease(p, m, now);
    else if (m->type == MSG_WEIGHTS)
        note_weights(p, m, now);
    else if (m->type == MSG_ACK)
        note_ack(p, from, m, now);
    else if (m->type == MSG_STOP && m->step + 1 > p->fleet->seen) /* it may overtake the last weights */
        p->fleet->seen = m->step + 1;
    else if (m->type == MSG_ERROR && m->code < REASON_END)
        p->fleet->result->refused[m->code]++;
}

static void note_sent(struct player *p, const struct msg *m)
{
    struct note *n = m->type == MSG_STATS || m->type == MSG_GRADIENT ? find_note(p, m->step, m->slot) : NULL;
    if (n != NULL)
        *(m->type == MSG_STATS ? &n->stats_us : &n->gradient_us) = now_us();
}

/* ---- turns ---- */

static void send_item(struct player *p, const struct outbox_item *item)
{
    struct buf *frames[NET_FRAMES_MAX];
    size_t n = 0;
    note_sent(p, &item->msg);
    if (msg_encode(&item->msg, frames, &n) == 0)
        net_send(item->server == SERVER_PROTOTYPE ? p->prototype.requests : p->parameter.requests, frames, n);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
}

static void log_events(struct player *p)
{
    struct session_event event;
    while (session_next_event(p->session, &event))
        log_line(event.level, "player=%u %s", (unsigned)(p - p->fleet->players), event.text);
}

static void flush(struct player *p, int rc)
{
    struct outbox *out = session_outbox(p->session);
    for (size_t i = 0; i < out->count && !p->fleet->closing; i++) /* the span may have ended in this turn */
        send_item(p, &out->items[i]);
    outbox_clear(out);
    log_events(p);
    if (!p->fleet->closing && (rc != 0 || session_status(p->session) != SESSION_RUNNING))
        end_player(p);
}

static void begin_job(struct player *p, struct slot_job *job);

/* Ends every turn. */
static void finish_turn(struct player *p, int rc)
{
    struct slot_job *job;
    flush(p, rc);
    if (!p->over && !p->fleet->closing && p->job == NULL && (job = session_next_job(p->session)) != NULL)
        begin_job(p, job);
}

/* ---- the executor ---- */

static void wait_until(struct player *p, uint64_t us);

static void on_executor(uv_timer_t *timer)
{
    struct player *p = timer->data;
    struct slot_job *job = p->job;
    if (!p->part_a_done && (job->parts & SLOT_PART_A) != 0) {
        p->part_a_done = true;
        material_part_a(p->fleet->o->material, job);
        flush(p, session_on_part_a(p->session, job, now_us()));
        if (p->over || p->fleet->closing)
            return;
        if ((job->parts & SLOT_PART_B) != 0) {
            wait_until(p, p->part_b_us);
            return;
        }
    } else {
        material_part_b(p->fleet->o->material, job);
        flush(p, session_on_part_b(p->session, job, now_us()));
    }
    p->job = NULL;
    finish_turn(p, 0);
}

static void wait_until(struct player *p, uint64_t us)
{
    uint64_t now = now_us();
    uv_update_time(&p->fleet->loop);
    uv_timer_start(&p->executor, on_executor, us > now ? (us - now + 999) / 1000 : 0, 0);
}

/* When the n-th slot that this worker does in the step should be done. */
static uint64_t due_us(const struct player *p, uint64_t step, uint32_t n)
{
    const struct fleet *f = p->fleet;
    double each = (double)f->o->config->run.slots / (double)f->o->workers, share = (double)(n + 1) / each;
    if (f->o->rate == 0 || f->clock_us == 0 || step < f->clock_step)
        return 0;
    double steps = (double)(step - f->clock_step) + (share < 1 ? share : 1);
    return f->clock_us + (uint64_t)(steps / f->o->rate * 1e6);
}

static void begin_job(struct player *p, struct slot_job *job)
{
    uint64_t now = now_us();
    p->jobs_in_step = job->step == p->job_step ? p->jobs_in_step + 1 : 0;
    p->job_step = job->step;
    p->job = job;
    p->part_a_done = false;
    uint64_t due = due_us(p, job->step, p->jobs_in_step), earliest = now + p->fleet->o->compute_us;
    p->part_b_us = due > earliest ? due : earliest;
    wait_until(p, now + (p->part_b_us - now) * STATS_AT / 100);
}

/* ---- in ---- */

static void take_message(const struct player_link *from, struct buf *const *frames, size_t n)
{
    struct player *p = from->player;
    struct msg m;
    struct error detail;
    enum reason why = 0;
    if (p->over || p->fleet->closing)
        return;
    uint64_t now = now_us();
    int rc = msg_decode(frames, n, &m, &why, &detail);
    if (rc == 0) {
        note_message(p, from->server, &m, now);
        rc = session_on_message(p->session, from->server, &m, now);
    }
    msg_fini(&m);
    finish_turn(p, rc);
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

static void on_metrics(void *arg, struct buf **frames, size_t n)
{
    struct fleet *f = arg;
    struct msg m;
    struct error detail;
    enum reason why = 0;
    if (n < 2)
        return;
    if (msg_decode(frames + 1, n - 1, &m, &why, &detail) == 0)
        f->result->leases_expired = msg_scalar(&m, "leases_expired", f->result->leases_expired);
    msg_fini(&m);
}

static void on_tick(uv_timer_t *timer)
{
    struct player *p = timer->data;
    if (!p->over)
        finish_turn(p, session_on_timer(p->session, now_us()));
}

/* Steps do not come any more. */
static void on_limit(uv_timer_t *timer)
{
    struct fleet *f = timer->data;
    error_set(&f->error, ERR_AGAIN, "step %" PRIu64 " was not over within %d s", f->seen, STUCK_MS / 1000);
    close_all(f);
}

/* ---- opening ---- */

static int open_link(struct player *p, struct player_link *l, enum server server, struct error *e)
{
    const struct run_config *c = p->fleet->o->config;
    bool parameter = server == SERVER_PARAMETER;
    struct net_options sub = {.role = NET_SUB,
                              .endpoint = parameter ? c->net.parameter_publish : c->net.prototype_publish,
                              .message_bytes_max = MESSAGE_BYTES_MAX,
                              .hwm = PUBLISH_HWM};
    struct net_options dealer = {.role = NET_DEALER,
                                 .endpoint = parameter ? c->net.parameter : c->net.prototype,
                                 .message_bytes_max = MESSAGE_BYTES_MAX};
    struct net *net = p->fleet->net;
    *l = (struct player_link){.player = p, .server = server};
    int rc = net_open(net, &p->fleet->loop, &sub, on_publication, l, &l->publications, e);
    if (rc == 0)
        rc = net_subscribe(l->publications, parameter ? "weights" : "mixture", e);
    if (rc == 0 && parameter)
        rc = net_subscribe(l->publications, "stop", e);
    return rc == 0 ? net_open(net, &p->fleet->loop, &dealer, on_reply, l, &l->requests, e) : rc;
}

static int open_session(struct player *p, uint32_t number, struct error *e)
{
    const struct fleet_options *o = p->fleet->o;
    const struct run_config *c = o->config;
    struct session_options s = {
        .run = c->run.name,
        .host = "load",
        .worker = ((uint64_t)getpid() << 32) + number + 1,
        .config = run_config_hash(c),
        .total_steps = (uint64_t)c->run.steps,
        .slots = (uint32_t)c->run.slots,
        .slot_size = (uint32_t)c->run.slot_size,
        .threads = 1,
        .ahead = (uint32_t)c->worker.ahead,
        .prototype_lag = (uint32_t)c->mixture.prototype_lag,
        .K = (uint32_t)c->mixture.components,
        .D = (uint32_t)c->mixture.dimensions,
        .covariance = (enum covariance)c->mixture.covariance,
        .manifest = &o->material->manifest,
        .initial = material_initial,
        .context = (void *)(uintptr_t)o->material,
    };
    return session_new(&s, &p->session) == 0 ? 0 : error_set(e, ERR_MEMORY, "no memory for worker %u", number);
}

static int open_player(struct fleet *f, uint32_t number, struct error *e)
{
    struct player *p = &f->players[number];
    p->fleet = f;
    uv_timer_init(&f->loop, &p->tick);
    uv_timer_init(&f->loop, &p->executor);
    p->tick.data = p->executor.data = p;
    uv_timer_start(&p->tick, on_tick, number % TIMER_MS, TIMER_MS);
    int rc = open_session(p, number, e);
    if (rc == 0)
        rc = open_link(p, &p->parameter, SERVER_PARAMETER, e);
    return rc == 0 ? open_link(p, &p->prototype, SERVER_PROTOTYPE, e) : rc;
}

static int open_fleet(struct fleet *f, struct error *e)
{
    struct net_options metrics = {
        .role = NET_SUB, .endpoint = f->o->config->net.parameter_publish, .message_bytes_max = METRICS_BYTES_MAX};
    uv_timer_init(&f->loop, &f->limit);
    f->limit.data = f;
    uv_timer_start(&f->limit, on_limit, STUCK_MS, 0);
    int rc = net_new(&f->net, e);
    if (rc == 0)
        rc = net_open(f->net, &f->loop, &metrics, on_metrics, f, &f->metrics, e);
    if (rc == 0)
        rc = net_subscribe(f->metrics, "metrics", e);
    for (uint32_t i = 0; rc == 0 && i < f->o->workers; i++)
        rc = open_player(f, i, e);
    return rc;
}

int fleet_run(const struct fleet_options *o, struct fleet_result *out, struct error *e)
{
    struct fleet f = {.o = o, .result = out, .open = o->workers};
    memset(out, 0, sizeof *out);
    f.players = calloc(o->workers, sizeof *f.players);
    if (f.players == NULL || uv_loop_init(&f.loop) != 0) {
        free(f.players);
        return error_set(e, ERR_MEMORY, "no memory for %u workers", o->workers);
    }
    int rc = open_fleet(&f, e);
    if (rc != 0)
        return rc; /* the process ends: nothing is worth closing */
    uv_run(&f.loop, UV_RUN_DEFAULT);
    for (uint32_t i = 0; i < o->workers; i++)
        session_free(&f.players[i].session);
    net_free(&f.net);
    uv_loop_close(&f.loop);
    free(f.players);
    return f.error.code != 0 ? error_set(e, f.error.code, "%s", f.error.text) : 0;
}

void fleet_result_fini(struct fleet_result *r)
{
    samples_fini(&r->lease_to_weights);
    samples_fini(&r->sync);
    samples_fini(&r->ack);
    samples_fini(&r->stats_ack);
}
