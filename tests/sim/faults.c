/* What goes wrong: at random moments, to random victims, until the scenario's limit of time or number. */
#include <inttypes.h>
#include "tests/sim/sim.h"

void faults_start(struct cluster *c)
{
    const struct scenario *s = c->scenario;
    uint64_t wait = sim_between(c, 0, 2 * s->fault_every_us);
    if (s->faults == 0)
        return;
    if (s->busy_faults)
        c->fault_at =
            c->handled + 1 +
            wait / (5 * MILLISECONDS); /* events come about every 5 ms, so faults are about as frequent as by time */
    else
        events_add(&c->events, sim_now(c) + wait, event_new(EVENT_FAULT));
}

static uint64_t downtime(struct cluster *c)
{
    return sim_between(c, 1, sim_chance(c, 20) ? 20000 : 2000) * MILLISECONDS;
}

static void crash_server(struct cluster *c, enum server server)
{
    if (!c->servers[server].alive)
        return;
    sim_trace(c, "%s crashes", server_name(server));
    c->checker.crashes++;
    server_kill(c, server, downtime(c));
}

/* Sometimes twice, as an impatient person does. */
static void end_server(struct cluster *c)
{
    enum server server = sim_chance(c, 50) ? SERVER_PARAMETER : SERVER_PROTOTYPE;
    if (!c->servers[server].alive)
        return;
    c->checker.crashes++; /* what is only explained by a restart is explained from now on */
    schedule_server(c, server, EVENT_SERVER_SIGNAL, 1);
    if (sim_chance(c, 20))
        schedule_server(c, server, EVENT_SERVER_SIGNAL, sim_between(c, 1, 3000) * MILLISECONDS);
}

/* One server has written its file of step T and dies; the other one's is still on its way, slowly. The one that died
 * comes back at an earlier step, and while the other goes back to it, step T becomes whole. */
void faults_near_end(struct cluster *c, enum server server)
{
    if (!c->scenario->fault_at_end || c->end_struck || c->healed || disk_present(&c->disk, c->scenario->steps))
        return;
    c->end_struck = true;
    c->checker.crashes++;
    sim_trace(c, "%s crashes with its file of the last step on disk", server_name(server));
    server_kill(c, server, sim_between(c, 1, 1000) * MILLISECONDS);
}

static uint32_t any_seat(struct cluster *c)
{
    return (uint32_t)sim_between(c, 0, SEATS - 1);
}

/* Never shortens a freeze: events that were put off until its end keep their order. */
static void freeze(struct cluster *c, uint64_t *until_us)
{
    uint64_t until = sim_now(c) + downtime(c);
    *until_us = until > *until_us ? until : *until_us;
}

static void freeze_worker(struct cluster *c, uint32_t seat)
{
    freeze(c, &c->seats[seat].frozen_until_us);
    sim_trace(c, "worker in seat %u freezes until %" PRIu64, seat, c->seats[seat].frozen_until_us);
}

static void freeze_server(struct cluster *c)
{
    enum server server = (enum server)sim_between(c, 0, 1);
    freeze(c, &c->servers[server].frozen_until_us);
    sim_trace(c, "%s freezes until %" PRIu64, server_name(server), c->servers[server].frozen_until_us);
}

static void start_in(struct cluster *c, uint32_t seat, uint64_t after_us)
{
    struct event *e = event_new(EVENT_SEAT);
    e->seat = seat;
    events_add(&c->events, sim_now(c) + after_us, e);
}

static void crash_worker(struct cluster *c, uint32_t seat)
{
    if (!c->seats[seat].alive)
        return;
    sim_trace(c, "worker in seat %u crashes", seat);
    worker_node_kill(c, seat);
    if (sim_chance(c, 70))
        start_in(c, seat, downtime(c));
}

static void leave(struct cluster *c, uint32_t seat)
{
    if (!c->seats[seat].alive || c->seats[seat].leaving || c->seats[seat].frozen_until_us > sim_now(c))
        return;
    sim_trace(c, "worker in seat %u is told to leave", seat);
    worker_node_leave(c, seat);
    if (sim_chance(c, 50))
        start_in(c, seat, downtime(c) + SECONDS);
}

static void reconnect(struct cluster *c, uint32_t seat)
{
    enum server server = (enum server)sim_between(c, 0, 1);
    if (!c->seats[seat].alive)
        return;
    sim_trace(c, "worker in seat %u reconnects to %s", seat, server_name(server));
    network_connect(c, seat, server);
}

/* Cuts off or holds up one seat or all, towards one server or both, in one direction or in both. */
static void trouble(struct cluster *c, bool clog)
{
    uint64_t until = sim_now(c) + downtime(c);
    uint32_t seat = sim_chance(c, 70) ? any_seat(c) : SEATS;
    uint64_t server = sim_between(c, 0, SERVERS), ways = sim_between(c, 1, (1u << CHANNELS) - 1);
    sim_trace(c, "%s: seat %u server %" PRIu64 " ways %#" PRIx64 " until %" PRIu64, clog ? "clog" : "partition", seat,
              server, ways, until);
    for (uint32_t i = 0; i < SEATS; i++)
        for (enum server s = 0; s < SERVERS; s++)
            for (unsigned way = 0; way < CHANNELS; way++) {
                struct sim_link *l = &c->links[i][s][way];
                if ((seat == SEATS || seat == i) && (server == SERVERS || server == s) && (ways >> way & 1))
                    *(clog ? &l->clogged_until_us : &l->blocked_until_us) = until;
            }
}

static void strike(struct cluster *c, enum fault kind)
{
    uint32_t seat = any_seat(c);
    switch (kind) {
    case FAULT_CRASH_PARAMETER:
        crash_server(c, SERVER_PARAMETER);
        break;
    case FAULT_CRASH_PROTOTYPE:
        crash_server(c, SERVER_PROTOTYPE);
        break;
    case FAULT_CRASH_BOTH:
        crash_server(c, SERVER_PARAMETER);
        crash_server(c, SERVER_PROTOTYPE);
        break;
    case FAULT_END_SERVER:
        end_server(c);
        break;
    case FAULT_CRASH_WORKER:
        crash_worker(c, seat);
        break;
    case FAULT_FREEZE_WORKER:
        freeze_worker(c, seat);
        break;
    case FAULT_FREEZE_SERVER:
        freeze_server(c);
        break;
    case FAULT_JOIN:
        start_in(c, seat, 0);
        break;
    case FAULT_LEAVE:
        leave(c, seat);
        break;
    case FAULT_RECONNECT:
        reconnect(c, seat);
        break;
    case FAULT_PARTITION:
    case FAULT_CLOG:
        trouble(c, kind == FAULT_CLOG);
        break;
    case FAULT_DAMAGE:
        if (disk_damage(&c->disk, c->scenario->steps, rng_u32(&c->rng)))
            sim_trace(c, "a checkpoint file is damaged");
        break;
    case FAULT_KINDS:
        break;
    }
}

void faults_on_event(struct cluster *c)
{
    enum fault kind;
    if (c->healed || c->faults++ >= c->scenario->faults_max)
        return;
    do
        kind = (enum fault)sim_between(c, 0, FAULT_KINDS - 1);
    while (!(c->scenario->faults >> kind & 1));
    strike(c, kind);
    faults_start(c);
}
