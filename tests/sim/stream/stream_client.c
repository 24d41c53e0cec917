/* A client as docs/PROTOCOL.md, section 12, asks for one; client/python does the same. */
#include <inttypes.h>
#include <string.h>
#include "tests/sim/stream/stream_sim.h"

enum { TIMER_MS = 20, HELLO_MS = 1000, PING_MS = 300, SILENCE_MS = 3000, AGAIN_MS = 100 };

static uint64_t now_of(const struct world *w)
{
    return w->events.now_us;
}

void client_reconnect(struct world *w, uint32_t seat)
{
    struct peer *p = &w->clients[seat].peer;
    uint32_t id = (uint32_t)++w->peers;
    *p = (struct peer){.size = 5};
    memcpy(p->id + 1, &id, sizeof id);
}

void client_start(struct world *w, uint32_t seat)
{
    struct stream_client *k = &w->clients[seat];
    *k = (struct stream_client){.alive = true, .uid = ++w->uids, .process = ++w->processes, .next = 1};
    k->target = world_between(w, 1, TARGET_MAX);
    client_reconnect(w, seat);
    world_trace(w, "client %" PRIu64 " starts in seat %u with %" PRIu64 " to contribute", k->uid, seat, k->target);
    world_schedule(w, EVENT_WORKER_TIMER, seat, k->process, world_between(w, 1, TIMER_MS) * MILLISECONDS);
}

void client_crash(struct world *w, uint32_t seat)
{
    world_trace(w, "client %" PRIu64 " crashes", w->clients[seat].uid);
    w->clients[seat] = (struct stream_client){0};
}

bool client_done(const struct stream_client *k)
{
    return k->made == k->target && k->durable == k->target;
}

static void say(struct world *w, uint32_t seat, enum msg_type type, uint64_t seq)
{
    struct msg m;
    msg_init(&m, type, w->config.run.name);
    m.worker = w->clients[seat].name;
    m.seq = seq;
    world_to_server(w, seat, &m);
}

static void send_contribution(struct world *w, uint32_t seat, uint64_t seq)
{
    const struct stream_client *k = &w->clients[seat];
    struct msg m;
    if (seq <= k->durable)
        world_fail(w, "client %" PRIu64 " is asked for contribution %" PRIu64 ", which is durable", k->uid, seq);
    contribution(&w->config, k->uid, seq, &m);
    m.worker = k->name;
    m.seq = seq;
    world_to_server(w, seat, &m);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void take_standing(struct world *w, struct stream_client *k, const struct msg *m)
{
    uint64_t durable = (uint64_t)msg_scalar(m, "durable", 0);
    k->applied = larger(k->applied, (uint64_t)msg_scalar(m, "applied", 0));
    k->credit = (uint64_t)msg_scalar(m, "credit", (double)k->credit);
    if (durable > k->durable) {
        check_durable(w, k, durable);
        k->durable = durable;
    }
    k->next = larger(k->next, k->durable + 1);
}

static void on_welcome(struct world *w, struct stream_client *k, const struct msg *m)
{
    if (k->name != 0 && m->worker != k->name)
        return; /* to a greeting that was repeated before we had a name */
    k->name = m->worker;
    if (m->generation > k->generation)
        k->applied = 0;
    k->generation = m->generation;
    k->greeted = true;
    take_standing(w, k, m);
    k->next = larger(k->applied, k->durable) + 1;
    k->again_us = 0;
}

static void on_error(struct world *w, struct stream_client *k, const struct msg *m)
{
    if (m->code == REASON_STOPPING) {
        k->greeted = false;
        k->hello_us = now_of(w);
        return;
    }
    take_standing(w, k, m);
    k->next = larger(k->applied, k->durable) + 1;
    k->again_us = now_of(w) + AGAIN_MS * MILLISECONDS;
}

void client_on_message(struct world *w, uint32_t seat, const struct msg *m)
{
    struct stream_client *k = &w->clients[seat];
    if (m->generation < k->generation)
        return;
    k->heard_us = now_of(w);
    if (m->type == MSG_WELCOME)
        on_welcome(w, k, m);
    else if (m->generation > k->generation)
        k->greeted = false;
    else if (m->type == MSG_ERROR)
        on_error(w, k, m);
    else if (m->type == MSG_ACK || m->type == MSG_PONG)
        take_standing(w, k, m);
    if (k->greeted && m->type == MSG_PONG && m->seq == k->pings && k->applied + 1 < k->ping_next)
        k->next = larger(k->applied, k->durable) + 1;
}

static void greet(struct world *w, uint32_t seat)
{
    struct stream_client *k = &w->clients[seat];
    if (now_of(w) - k->hello_us < HELLO_MS * MILLISECONDS && k->hello_us != 0)
        return;
    k->hello_us = now_of(w);
    say(w, seat, MSG_HELLO, k->durable);
}

void client_on_timer(struct world *w, uint32_t seat)
{
    struct stream_client *k = &w->clients[seat];
    uint64_t now = now_of(w);
    world_schedule(w, EVENT_WORKER_TIMER, seat, k->process, TIMER_MS * MILLISECONDS);
    if (k->made < k->target && world_chance(w, 30))
        k->made++;
    if (k->greeted && now - k->heard_us > SILENCE_MS * MILLISECONDS)
        k->greeted = false;
    if (!k->greeted) {
        greet(w, seat);
        return;
    }
    if (now - k->ping_us >= PING_MS * MILLISECONDS) {
        k->ping_us = now;
        k->ping_next = k->next;
        say(w, seat, MSG_PING, ++k->pings);
    }
    while (now >= k->again_us && k->next <= k->made && k->next <= k->credit)
        send_contribution(w, seat, k->next++);
}
