#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#include "tests/sim/explain.h"
#include "tests/sim/sim.h"

enum { EVENTS_MAX = 20000000, FAREWELL_S = 120 };

/* ---- small things ---- */

void sim_fail(struct cluster *c, const char *format, ...)
{
    va_list args;
    if (c->failure[0] != '\0')
        return;
    int n = snprintf(c->failure, sizeof c->failure, "at %.6f s: ", (double)sim_now(c) / 1e6);
    va_start(args, format);
    vsnprintf(c->failure + n, sizeof c->failure - (size_t)n, format, args);
    va_end(args);
}

void sim_trace(struct cluster *c, const char *format, ...)
{
    va_list args;
    if (!c->verbose)
        return;
    printf("%11.6f  ", (double)sim_now(c) / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

uint64_t sim_now(const struct cluster *c)
{
    return c->events.now_us;
}

uint64_t sim_between(struct cluster *c, uint64_t low, uint64_t high)
{
    uint64_t draw = (uint64_t)rng_u32(&c->rng) << 32 | rng_u32(&c->rng);
    return low + draw % (high - low + 1);
}

bool sim_chance(struct cluster *c, uint32_t percent)
{
    return percent > 0 && rng_below(&c->rng, 100) < percent;
}

/* ---- servers ---- */

static bool is_used(const struct cluster *c, enum server server)
{
    return server == SERVER_PARAMETER || !c->scenario->joint;
}

uint64_t server_clock_ms(const struct cluster *c, enum server server)
{
    return (sim_now(c) + c->servers[server].clock_us) / MILLISECONDS;
}

uint64_t server_step(const struct cluster *c, enum server server)
{
    const struct server_node *n = &c->servers[server];
    if (!n->alive)
        return 0;
    return server_node_step(n);
}

void schedule_server(struct cluster *c, enum server server, enum event_kind kind, uint64_t after_us)
{
    struct event *e = event_new(kind);
    e->server = server;
    e->process = c->servers[server].process;
    events_add(&c->events, sim_now(c) + after_us, e);
}

static void start_server(struct cluster *c, enum server server)
{
    struct server_node *n = &c->servers[server];
    n->alive = true;
    n->process = ++c->processes;
    n->frozen_until_us = 0;
    n->clock_us = sim_between(c, 1, 100000 * SECONDS);
    server_node_start(n);
    schedule_server(c, server, EVENT_SERVER_TIMER, MILLISECONDS);
}

void server_kill(struct cluster *c, enum server server, uint64_t back_after_us)
{
    struct server_node *n = &c->servers[server];
    server_node_free(n);
    disk_crash(&c->disk, server);
    n->alive = false;
    n->process = 0;
    if (back_after_us > 0)
        schedule_server(c, server, EVENT_RESTART, back_after_us);
}

static void schedule_write(struct cluster *c, enum server server)
{
    const struct scenario *s = c->scenario;
    uint64_t after_us = sim_between(c, s->write_us_min, s->write_us_max);
    bool last = c->disk.writers[server].current.step == s->steps;
    if (s->fault_at_end && last && server == (s->seed % 2 ? SERVER_PARAMETER : SERVER_PROTOTYPE))
        after_us += sim_between(c, 1, 10) * SECONDS;
    schedule_server(c, server, EVENT_WRITTEN, after_us);
}

void server_submit(struct cluster *c, enum server server, struct disk_file *f)
{
    if (disk_submit(&c->disk, server, f))
        schedule_write(c, server);
}

static void on_written(struct cluster *c, enum server server)
{
    uint64_t step;
    if (disk_written(&c->disk, server, &step))
        schedule_write(c, server);
    sim_trace(c, "%s file of step %" PRIu64 " is on disk", server_name(server), step);
    if (step == c->scenario->steps)
        faults_near_end(c, server);
    if (c->servers[server].alive)
        server_node_on_written(&c->servers[server]);
}

static void on_server_timer(struct cluster *c, enum server server)
{
    struct server_node *n = &c->servers[server];
    schedule_server(c, server, EVENT_SERVER_TIMER, server_node_timer_ms(n) * MILLISECONDS);
    server_node_on_timer(n);
}

static void on_server_signal(struct cluster *c, enum server server)
{
    sim_trace(c, "%s is told to end", server_name(server));
    server_node_on_signal(&c->servers[server]);
}

/* ---- the end of the faults, and of the run ---- */

static bool anyone_stays(const struct cluster *c)
{
    for (uint32_t i = 0; i < SEATS; i++)
        if (c->seats[i].alive && !c->seats[i].leaving)
            return true;
    return false;
}

static uint32_t empty_seat(const struct cluster *c)
{
    uint32_t seat = 0;
    while (seat < SEATS && c->seats[seat].alive)
        seat++;
    return seat;
}

/* From now on nothing goes wrong any more (what is frozen wakes when its freeze ends): the run must come to its end. */
static void heal(struct cluster *c)
{
    if (c->healed)
        return;
    c->healed = true;
    c->deadline_us = sim_now(c) + c->scenario->budget_us;
    sim_trace(c, "nothing goes wrong any more");
    network_heal(c);
    if (c->scenario->rogue)
        worker_node_kill(c, ROGUE_SEAT);
    uint32_t seat = empty_seat(c);
    if (!anyone_stays(c))
        worker_node_start(c, seat < SEATS ? seat : 0);
}

void cluster_over(struct cluster *c)
{
    if (c->over)
        return;
    sim_trace(c, "the run is over");
    c->over = true;
    heal(c);
    c->deadline_us = sim_now(c) + FAREWELL_S * SECONDS;
    if (!disk_present(&c->disk, c->scenario->steps))
        sim_fail(c, "finished, but step %" PRIu64 " is not whole on disk", c->scenario->steps);
    if (server_step(c, SERVER_PARAMETER) != c->scenario->steps)
        sim_fail(c, "finished at step %" PRIu64, server_step(c, SERVER_PARAMETER));
}

/* ---- events ---- */

static bool reaches_server(struct cluster *c, struct event **e)
{
    const struct server_node *n = &c->servers[(*e)->server];
    bool message = (*e)->kind == EVENT_TO_SERVER;
    if (n->alive && (message || n->process == (*e)->process)) {
        if (n->frozen_until_us <= sim_now(c) || (*e)->kind == EVENT_WRITTEN)
            return true;
        events_add(&c->events, n->frozen_until_us, *e);
        *e = NULL;
    } else if (message && c->scenario->network.patient && !c->healed) {
        events_add(&c->events, sim_now(c) + 100 * MILLISECONDS, *e);
        *e = NULL;
    }
    return false;
}

static bool reaches_worker(struct cluster *c, struct event **e)
{
    const struct worker_node *w = &c->seats[(*e)->seat];
    if (!w->alive || w->process != (*e)->process)
        return false;
    if (w->frozen_until_us <= sim_now(c))
        return true;
    events_add(&c->events, w->frozen_until_us, *e);
    *e = NULL;
    return false;
}

/* Whether *e is to be handled now. *e becomes NULL when it was put off to later. */
static bool arrives(struct cluster *c, struct event **e)
{
    switch ((*e)->kind) {
    case EVENT_TO_SERVER:
    case EVENT_SERVER_TIMER:
    case EVENT_SERVER_SIGNAL:
    case EVENT_WRITTEN:
        return reaches_server(c, e);
    case EVENT_TO_WORKER:
    case EVENT_WORKER_TIMER:
    case EVENT_PART:
        return reaches_worker(c, e);
    default:
        return true;
    }
}

static void trace_message(struct cluster *c, const struct event *e)
{
    const struct msg *m = &e->msg;
    if (c->verbose)
        sim_trace(
            c, "seat %u %s %s  %s generation=%" PRIu64 " step=%" PRIu64 " slot=%u code=%u want=%u seq=%" PRIu64 " %s",
            e->seat, e->kind == EVENT_TO_SERVER ? "->" : "<-", server_name(e->server), msg_type_name(m->type),
            m->generation, m->step, m->slot, m->code, m->want, m->seq, m->text);
}

static void handle_message(struct cluster *c, struct event *e)
{
    trace_message(c, e);
    if (e->kind == EVENT_TO_WORKER)
        worker_node_on_message(c, e);
    else
        server_node_on_message(&c->servers[e->server], e);
}

static void handle(struct cluster *c, struct event *e)
{
    switch (e->kind) {
    case EVENT_TO_SERVER:
    case EVENT_TO_WORKER:
        handle_message(c, e);
        break;
    case EVENT_SERVER_TIMER:
        on_server_timer(c, e->server);
        break;
    case EVENT_WORKER_TIMER:
        worker_node_on_timer(c, e->seat);
        break;
    case EVENT_PART:
        worker_node_on_part(c, e);
        break;
    case EVENT_SERVER_SIGNAL:
        on_server_signal(c, e->server);
        break;
    case EVENT_WRITTEN:
        on_written(c, e->server);
        break;
    case EVENT_RESTART:
        start_server(c, e->server);
        break;
    case EVENT_SEAT:
        if (!c->seats[e->seat].alive)
            worker_node_start(c, e->seat);
        break;
    case EVENT_FAULT:
        faults_on_event(c);
        break;
    }
}

static bool is_message(const struct event *e)
{
    return e->kind == EVENT_TO_SERVER || e->kind == EVENT_TO_WORKER;
}

static void note(struct cluster *c, const struct event *e)
{
    const uint64_t facts[] = {c->trace,
                              e->at_us,
                              e->kind,
                              e->server,
                              e->seat,
                              is_message(e) ? e->msg.type : 0,
                              is_message(e) ? e->msg.step : 0,
                              is_message(e) ? e->msg.slot : 0};
    c->trace = XXH3_64bits(facts, sizeof facts);
    c->handled++;
}

/* Checked between any two events. */
static void strike_when_busy(struct cluster *c)
{
    if (c->fault_at == 0 || c->handled < c->fault_at)
        return;
    c->fault_at = 0;
    faults_on_event(c);
}

/* Writes where every node stands, for the text of a failure. */
static void explain(const struct cluster *c, char *text, size_t size)
{
    size_t used = 0;
    for (enum server server = 0; server < SERVERS && used < size; server++)
        used += (size_t)snprintf(text + used, size - used, "%s@%" PRIu64 " generation %" PRIu64 "; ",
                                 server_name(server), server_step(c, server), c->disk.generation[server]);
    for (uint32_t i = 0; i < SEATS && used + 20 < size; i++)
        if (c->seats[i].alive) {
            used += (size_t)snprintf(text + used, size - used, "seat %u:", i);
            used += session_explain(c->seats[i].session, text + used, size - used);
        }
}

static void check_deadlines(struct cluster *c)
{
    char text[FAILURE_BYTES] = "";
    if (!c->healed && sim_now(c) >= c->scenario->faults_until_us)
        heal(c);
    if (c->healed && sim_now(c) > c->deadline_us && c->failure[0] == '\0') {
        explain(c, text, sizeof text);
        sim_fail(c, "stuck%s: %s", c->over ? " (workers do not leave)" : "", text);
    }
    if (c->handled > EVENTS_MAX)
        sim_fail(c, "more than %d events", EVENTS_MAX);
}

static void start(struct cluster *c)
{
    for (enum server server = 0; server < SERVERS; server++) {
        c->servers[server].cluster = c;
        c->servers[server].server = server;
        if (is_used(c, server))
            start_server(c, server);
    }
    for (uint32_t i = 0; i < c->scenario->workers; i++)
        worker_node_start(c, i);
    rogue_start(c);
    faults_start(c);
}

void cluster_run(struct cluster *c, const struct scenario *s, struct reference *reference, bool verbose)
{
    memset(c, 0, sizeof *c);
    c->scenario = s;
    c->reference = reference;
    c->verbose = verbose;
    rng_open(&c->rng, s->seed, RNG_JITTER, 3, 0, 0);
    events_init(&c->events);
    disk_init(&c->disk, s->joint, s->keep);
    start(c);
    while (c->failure[0] == '\0' && !(c->over && workers_alive(c) == 0)) {
        struct event *e = events_take(&c->events);
        ASSERT(e != NULL);
        check_deadlines(c);
        strike_when_busy(c);
        if (arrives(c, &e)) {
            c->in_flight -= is_message(e);
            note(c, e);
            handle(c, e);
        } else if (e != NULL) {
            c->in_flight -= is_message(e);
        }
        if (e != NULL)
            event_free(&e);
    }
}

void cluster_fini(struct cluster *c)
{
    for (uint32_t i = 0; i < SEATS; i++)
        worker_node_kill(c, i);
    for (enum server server = 0; server < SERVERS; server++)
        server_kill(c, server, 0);
    events_fini(&c->events);
    disk_fini(&c->disk);
}
