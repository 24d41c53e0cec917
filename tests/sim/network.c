/* Messages on their way: lost, doubled, late, out of order, held back. A link is one way between a seat and a server.
 */
#include <string.h>
#include "tests/sim/sim.h"

enum { IN_FLIGHT_MAX = 20000, SUBSCRIBED_TYPES = 3 };

/* A message as the wire would deliver it: everything is copied, nothing is shared with the sender. */
static void through_the_wire(struct cluster *c, const struct msg *from, struct msg *to)
{
    struct buf *frames[1 + MSG_TENSORS_MAX], *copies[1 + MSG_TENSORS_MAX];
    struct error e = {0};
    enum reason why = 0;
    size_t n = 0;
    int rc = msg_encode(from, frames, &n);
    ASSERT(rc == 0);
    for (size_t i = 0; i < n; i++) {
        copies[i] = buf_copy(frames[i]->data, frames[i]->size);
        ASSERT(copies[i] != NULL);
        buf_unref(&frames[i]);
    }
    if (msg_decode(copies, n, to, &why, &e) != 0)
        sim_fail(c, "%s is not decodable: %s, %s", msg_type_name(from->type), reason_name(why), e.text);
    for (size_t i = 0; i < n; i++)
        buf_unref(&copies[i]);
}

static void copy_message(struct cluster *c, const struct msg *from, struct msg *to)
{
    if (c->scenario->network.wire) {
        through_the_wire(c, from, to);
        return;
    }
    *to = *from;
    for (uint32_t i = 0; i < to->tensor_count; i++)
        buf_ref(to->tensors[i].data);
}

static uint64_t draw_arrival(struct cluster *c, struct sim_link *l)
{
    const struct scenario_network *n = &c->scenario->network;
    uint64_t now = sim_now(c), at = now + n->delay_us + sim_between(c, 0, n->delay_tail_us);
    if (c->healed)
        return now + n->delay_us; /* in order, too */
    if (sim_chance(c, n->late_percent))
        at += sim_between(c, 500, 8000) * MILLISECONDS;
    if (at < l->clogged_until_us)
        at = l->clogged_until_us;
    if (!n->reorder && at < l->last_us)
        at = l->last_us;
    l->last_us = at;
    return at;
}

static bool is_lost(struct cluster *c, const struct sim_link *l)
{
    return !c->healed && (l->blocked_until_us > sim_now(c) || sim_chance(c, c->scenario->network.loss_percent));
}

/* model: an event without its message. */
static void transmit(struct cluster *c, struct sim_link *l, const struct event *model, const struct msg *m)
{
    uint32_t copies = !c->healed && sim_chance(c, c->scenario->network.duplicate_percent) ? 2 : 1;
    if (is_lost(c, l)) {
        sim_trace(c, "lost %s step=%llu slot=%u seat=%u", msg_type_name(m->type), (unsigned long long)m->step, m->slot,
                  model->seat);
        return;
    }
    for (uint32_t i = 0; i < copies; i++) {
        struct event *e = event_new(model->kind);
        memcpy(e, model, offsetof(struct event, msg));
        copy_message(c, m, &e->msg);
        events_add(&c->events, draw_arrival(c, l), e);
        c->in_flight++;
    }
    if (c->in_flight > IN_FLIGHT_MAX)
        sim_fail(c, "more than %d messages are on their way", IN_FLIGHT_MAX);
}

void network_connect(struct cluster *c, uint32_t seat, enum server server)
{
    struct peer *p = &c->seats[seat].peers[server];
    uint64_t id = ++c->processes;
    *p = (struct peer){.size = 5, .owner = c->seats[seat].process};
    memcpy(p->id + 1, &id, 4);
}

void network_from_worker(struct cluster *c, uint32_t seat, const struct outbox_item *item)
{
    if (!rogue_acts(c, seat) || !rogue_swallows(c, item))
        network_transmit_up(c, seat, item);
}

void network_transmit_up(struct cluster *c, uint32_t seat, const struct outbox_item *item)
{
    enum server server = item->server;
    struct event model = {
        .kind = EVENT_TO_SERVER, .server = server, .seat = seat, .peer = c->seats[seat].peers[server]};
    transmit(c, &c->links[seat][server][CHANNEL_UP], &model, &item->msg);
}

static bool is_subscribed(const struct outbox_item *item)
{
    static const char *const topics[SUBSCRIBED_TYPES] = {"weights", "mixture", "stop"};
    for (int i = 0; i < SUBSCRIBED_TYPES; i++)
        if (strcmp(item->topic, topics[i]) == 0)
            return true;
    return false;
}

static void publish(struct cluster *c, enum server server, const struct outbox_item *item)
{
    for (uint32_t seat = 0; seat < SEATS && is_subscribed(item); seat++) {
        const struct worker_node *w = &c->seats[seat];
        struct event model = {.kind = EVENT_TO_WORKER, .server = server, .seat = seat, .process = w->process};
        if (w->alive)
            transmit(c, &c->links[seat][server][CHANNEL_PUBLISHED], &model, &item->msg);
    }
}

/* The seat that a routing id leads to, or SEATS. */
static uint32_t find_seat(const struct cluster *c, enum server server, const struct peer *p)
{
    uint32_t seat = 0;
    while (seat < SEATS && !(c->seats[seat].alive && peer_equal(&c->seats[seat].peers[server], p)))
        seat++;
    return seat;
}

bool network_from_server(struct cluster *c, enum server server, const struct outbox_item *item)
{
    if (item->kind == OUT_PUBLISH) {
        publish(c, server, item);
        return true;
    }
    uint32_t seat = find_seat(c, server, &item->peer);
    if (seat == SEATS) /* a ROUTER reports a peer that is gone, but not at once */
        return sim_chance(c, 50);
    struct event model = {
        .kind = EVENT_TO_WORKER, .server = server, .seat = seat, .process = c->seats[seat].process, .peer = item->peer};
    transmit(c, &c->links[seat][server][CHANNEL_DOWN], &model, &item->msg);
    return true;
}

void network_heal(struct cluster *c)
{
    memset(c->links, 0, sizeof c->links);
}
