/* A worker with a key that lies wherever its role lets it: it acknowledges its own statistics instead of sending them,
 * asks servers to go back for no reason, and speaks in the name of others. What it computes is right, so that the run
 * must still end with the same bytes. It is gone when everything heals. */
#include <inttypes.h>
#include "tests/sim/sim.h"

static uint32_t any_other_seat(struct cluster *c)
{
    return (uint32_t)sim_between(c, 0, ROGUE_SEAT - 1);
}

/* The header of an honest message, without anything that goes with it. */
static struct msg forged(const struct msg *honest, enum msg_type type)
{
    struct msg m = *honest;
    m.type = type;
    m.tensor_count = m.scalar_count = 0;
    m.code = 0;
    return m;
}

static void send(struct cluster *c, enum server server, struct msg *m)
{
    struct outbox_item item = {.kind = OUT_SERVER, .server = server, .msg = *m};
    network_transmit_up(c, ROGUE_SEAT, &item);
}

/* Its session believes that the prototype server has taken the statistics, and sends the gradient. */
static void acknowledge_itself(struct cluster *c, const struct msg *stats)
{
    struct event *e = event_new(EVENT_TO_WORKER);
    e->server = SERVER_PROTOTYPE;
    e->seat = ROGUE_SEAT;
    e->process = c->seats[ROGUE_SEAT].process;
    e->peer = c->seats[ROGUE_SEAT].peers[SERVER_PROTOTYPE];
    e->msg = forged(stats, MSG_ACK);
    e->msg.code = ACK_APPLIED;
    events_add(&c->events, sim_now(c) + MILLISECONDS, e);
    c->in_flight++;
    sim_trace(c, "the rogue keeps its statistics of step %" PRIu64 " slot %u", stats->step, stats->slot);
}

static void tell_to_go_back(struct cluster *c, enum server server, const struct msg *honest)
{
    struct msg m = forged(honest, MSG_REWIND);
    m.step = honest->step > 0 ? sim_between(c, 0, honest->step - 1) : 0;
    sim_trace(c, "the rogue tells the %s server to go back to %" PRIu64, server_name(server), m.step);
    send(c, server, &m);
}

/* Takes leases, or ends them, in the name of somebody else. */
static void speak_for_another(struct cluster *c, const struct msg *honest)
{
    const struct worker_node *other = &c->seats[any_other_seat(c)];
    struct msg m = forged(honest, sim_chance(c, 50) ? MSG_LEASE_REQUEST : MSG_PING);
    if (!other->alive)
        return;
    m.worker = other->process;
    m.code = m.type == MSG_PING ? 1 : 0;
    m.want = 0;
    send(c, SERVER_PARAMETER, &m);
}

/* Contributions rest upon a restart of the prototype server that there never was. */
static void invent_lineage(struct cluster *c, const struct msg *honest)
{
    struct msg m = forged(honest, MSG_PING);
    int rc = msg_add_scalar(&m, "lineage", 1e9);
    ASSERT(rc == 0);
    send(c, SERVER_PARAMETER, &m);
}

bool rogue_swallows(struct cluster *c, const struct outbox_item *item)
{
    const struct msg *m = &item->msg;
    c->checker.crashes += c->checker.crashes == 0; /* whatever is done over again from now on is explained */
    if (m->type == MSG_STATS && sim_chance(c, 20)) {
        acknowledge_itself(c, m);
        return true;
    }
    if (m->generation != 0 && sim_chance(c, 5))
        tell_to_go_back(c, item->server, m);
    if (item->server == SERVER_PARAMETER && m->generation != 0 && sim_chance(c, 10))
        speak_for_another(c, m);
    if (item->server == SERVER_PARAMETER && m->generation != 0 && sim_chance(c, 5))
        invent_lineage(c, m);
    return false;
}

void rogue_start(struct cluster *c)
{
    if (c->scenario->rogue && !c->seats[ROGUE_SEAT].alive)
        worker_node_start(c, ROGUE_SEAT);
}

bool rogue_acts(struct cluster *c, uint32_t seat)
{
    if (!c->scenario->rogue || seat != ROGUE_SEAT || c->healed)
        return false;
    c->rogue_awake = c->rogue_awake || server_step(c, SERVER_PARAMETER) >= c->scenario->rogue_from;
    return c->rogue_awake;
}
