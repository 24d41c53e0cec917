/* A worker's process: what worker/service.c and compute.c do, around the same session. */
#include <inttypes.h>
#include <stdlib.h>
#include "tests/sim/arithmetic.h"
#include "tests/sim/sim.h"

enum { TIMER_MS = 50 };

static uint64_t clock_us(const struct cluster *c, const struct worker_node *w)
{
    return sim_now(c) + w->clock_us;
}

uint32_t workers_alive(const struct cluster *c)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SEATS; i++)
        count += c->seats[i].alive;
    return count;
}

/* ---- life ---- */

static struct session *open_session(const struct cluster *c, uint64_t id)
{
    const struct scenario *s = c->scenario;
    const struct run_config *config = &s->config;
    struct session *session;
    struct session_options o = {.run = config->run.name,
                                .host = "sim:1",
                                .worker = id,
                                .config = run_config_hash(config),
                                .total_steps = s->steps,
                                .data = 1 + s->number,
                                .numerics = 2 + s->number,
                                .slots = (uint32_t)config->run.slots,
                                .slot_size = (uint32_t)config->run.slot_size,
                                .threads = (uint32_t)config->worker.threads,
                                .ahead = (uint32_t)config->worker.ahead,
                                .joint = s->joint,
                                .prototype_lag = (uint32_t)config->mixture.prototype_lag,
                                .K = (uint32_t)config->mixture.components,
                                .D = (uint32_t)config->mixture.dimensions,
                                .covariance = (enum covariance)config->mixture.covariance,
                                .manifest = &s->manifest,
                                .initial = arithmetic_initial,
                                .context = (void *)s};
    int rc = session_new(&o, &session);
    ASSERT(rc == 0);
    return session;
}

static void schedule_timer(struct cluster *c, uint32_t seat, uint64_t after_us)
{
    struct event *e = event_new(EVENT_WORKER_TIMER);
    e->seat = seat;
    e->process = c->seats[seat].process;
    events_add(&c->events, sim_now(c) + after_us, e);
}

void worker_node_start(struct cluster *c, uint32_t seat)
{
    struct worker_node *w = &c->seats[seat];
    *w = (struct worker_node){.alive = true, .process = ++c->processes};
    w->clock_us = sim_between(c, 1, 100000 * SECONDS);
    network_connect(c, seat, SERVER_PARAMETER);
    network_connect(c, seat, SERVER_PROTOTYPE);
    w->session = open_session(c, w->process);
    w->carry = calloc(session_jobs_max(w->session), sizeof *w->carry);
    ASSERT(w->carry != NULL);
    sim_trace(c, "worker %" PRIu64 " starts in seat %u", w->process, seat);
    schedule_timer(c, seat, sim_between(c, 0, TIMER_MS * MILLISECONDS));
}

void worker_node_kill(struct cluster *c, uint32_t seat)
{
    struct worker_node *w = &c->seats[seat];
    if (w->alive)
        session_free(&w->session);
    free(w->carry);
    *w = (struct worker_node){0};
}

/* ---- turns ---- */

static void schedule_part(struct cluster *c, uint32_t seat, struct slot_job *job, unsigned part, uint64_t at_us)
{
    struct event *e = event_new(EVENT_PART);
    e->seat = seat;
    e->process = c->seats[seat].process;
    e->job = job;
    e->part = part;
    events_add(&c->events, at_us, e);
}

static void submit(struct cluster *c, uint32_t seat, struct slot_job *job)
{
    const struct scenario *s = c->scenario;
    sim_trace(c, "seat %u computes parts %u of step %" PRIu64 " slot %u at index %u", seat, job->parts, job->step,
              job->slot, job->index);
    uint64_t at = sim_now(c);
    ASSERT(job->index < session_jobs_max(c->seats[seat].session));
    for (unsigned part = SLOT_PART_A; part <= SLOT_PART_B; part++)
        if (job->parts & part) {
            at += sim_between(c, s->part_us_min[seat], s->part_us_max[seat]);
            schedule_part(c, seat, job, part, at);
        }
}

static void read_events(struct cluster *c, uint32_t seat)
{
    struct session_event event;
    while (session_next_event(c->seats[seat].session, &event)) {
        sim_trace(c, "worker in seat %u says: %s", seat, event.text);
        if (event.level == LOG_ERROR)
            sim_fail(c, "the worker in seat %u failed: %s", seat, event.text);
    }
}

/* The last one has left, because a server that was told to end told it so; that server is back or will be. */
static void start_again(struct cluster *c, uint32_t seat)
{
    struct event *e = event_new(EVENT_SEAT);
    e->seat = seat;
    events_add(&c->events, sim_now(c) + SECONDS, e);
}

static void end_turn(struct cluster *c, uint32_t seat, int rc)
{
    struct worker_node *w = &c->seats[seat];
    struct outbox *out = session_outbox(w->session);
    struct slot_job *job;
    if (rc != 0)
        sim_fail(c, "the session in seat %u failed: %s", seat, error_name(rc));
    while ((job = session_next_job(w->session)) != NULL)
        submit(c, seat, job);
    for (size_t i = 0; i < out->count; i++)
        network_from_worker(c, seat, &out->items[i]);
    outbox_clear(out);
    read_events(c, seat);
    if (session_status(w->session) == SESSION_RUNNING)
        return;
    sim_trace(c, "the worker in seat %u leaves", seat);
    worker_node_kill(c, seat);
    if (c->healed && !c->over && workers_alive(c) == 0)
        start_again(c, seat);
}

void worker_node_on_message(struct cluster *c, struct event *e)
{
    struct worker_node *w = &c->seats[e->seat];
    bool reply = e->peer.size > 0;
    if (reply && !peer_equal(&e->peer, &w->peers[e->server]))
        return; /* to a connection that is no more */
    enum server from = e->server == SERVER_PARAMETER ? SERVER_PARAMETER : SERVER_PROTOTYPE;
    end_turn(c, e->seat, session_on_message(w->session, from, &e->msg, clock_us(c, w)));
}

void worker_node_on_timer(struct cluster *c, uint32_t seat)
{
    struct worker_node *w = &c->seats[seat];
    schedule_timer(c, seat, TIMER_MS * MILLISECONDS);
    if (c->over && !c->servers[SERVER_PARAMETER].alive && !w->leaving) {
        worker_node_leave(c, seat); /* the launcher ends those that have not heard */
        return;
    }
    end_turn(c, seat, session_on_timer(w->session, clock_us(c, w)));
}

void worker_node_on_part(struct cluster *c, struct event *e)
{
    struct worker_node *w = &c->seats[e->seat];
    struct slot_job *job = e->job;
    uint64_t *carry = &w->carry[job->index];
    int rc;
    if (e->part == SLOT_PART_A) {
        job->rc_a = arithmetic_part_a(c->scenario, job, carry);
        rc = session_on_part_a(w->session, job, clock_us(c, w));
    } else {
        job->rc_b = arithmetic_part_b(c->scenario, job, *carry);
        rc = session_on_part_b(w->session, job, clock_us(c, w));
    }
    end_turn(c, e->seat, rc);
}

void worker_node_leave(struct cluster *c, uint32_t seat)
{
    struct worker_node *w = &c->seats[seat];
    w->leaving = true;
    end_turn(c, seat, session_stop(w->session, clock_us(c, w)));
}
