/* Events to nodes until the run is over; messages that are lost, doubled, late and out of order; what goes wrong. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "tests/sim/stream/stream_sim.h"

enum { STREAM_SCENARIO = 78, EVENTS_MAX = 2000000, PATIENCE_S = 120, SETS = 12 };

/* ---- small things ---- */

void world_fail(struct world *w, const char *format, ...)
{
    va_list args;
    if (w->failure[0] != '\0')
        return;
    int n = snprintf(w->failure, sizeof w->failure, "at %.6f s: ", (double)w->events.now_us / 1e6);
    va_start(args, format);
    vsnprintf(w->failure + n, sizeof w->failure - (size_t)n, format, args);
    va_end(args);
}

void world_trace(struct world *w, const char *format, ...)
{
    va_list args;
    if (!w->verbose)
        return;
    printf("%11.6f  ", (double)w->events.now_us / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

uint64_t world_between(struct world *w, uint64_t low, uint64_t high)
{
    uint64_t draw = (uint64_t)rng_u32(&w->rng) << 32 | rng_u32(&w->rng);
    return low + draw % (high - low + 1);
}

bool world_chance(struct world *w, uint32_t percent)
{
    return percent > 0 && rng_below(&w->rng, 100) < percent;
}

void world_schedule(struct world *w, enum event_kind kind, uint32_t seat, uint64_t process, uint64_t after_us)
{
    struct event *e = event_new(kind);
    e->seat = seat;
    e->process = process;
    events_add(&w->events, w->events.now_us + after_us, e);
}

/* ---- the network ---- */

static void copy_message(const struct msg *from, struct msg *to)
{
    *to = *from;
    for (uint32_t i = 0; i < to->tensor_count; i++)
        buf_ref(to->tensors[i].data);
}

static void transmit(struct world *w, const struct event *model, uint64_t *last_us, const struct msg *m)
{
    bool away = !w->healed && w->partitioned_until_us[model->seat] > w->events.now_us;
    uint32_t copies = !w->healed && world_chance(w, w->duplicate_percent) ? 2 : 1;
    if (away || (!w->healed && world_chance(w, w->loss_percent))) {
        world_trace(w, "lost %s seq=%" PRIu64 " seat=%u", msg_type_name(m->type), m->seq, model->seat);
        return;
    }
    for (uint32_t i = 0; i < copies; i++) {
        uint64_t at = w->events.now_us + world_between(w, 100, 20 * MILLISECONDS);
        if (!w->healed && world_chance(w, w->late_percent))
            at += world_between(w, 500, 8000) * MILLISECONDS;
        if (!w->reorder && at < *last_us)
            at = *last_us;
        *last_us = at;
        struct event *e = event_new(model->kind);
        memcpy(e, model, offsetof(struct event, msg));
        copy_message(m, &e->msg);
        events_add(&w->events, at, e);
    }
}

/* The sender's uid travels along (in `job`), for the checker: a message may arrive when its sender is no more. */
void world_to_server(struct world *w, uint32_t seat, struct msg *m)
{
    const struct stream_client *k = &w->clients[seat];
    struct event model = {
        .kind = EVENT_TO_SERVER, .seat = seat, .peer = k->peer, .job = (struct slot_job *)(uintptr_t)k->uid};
    transmit(w, &model, &w->last_up_us[seat], m);
    msg_fini(m);
}

/* Clients of the simulator do not look at the mixture, so publications are not carried. */
void world_to_clients(struct world *w, const struct outbox_item *item)
{
    for (uint32_t seat = 0; seat < CLIENTS && item->kind == OUT_PEER; seat++) {
        const struct stream_client *k = &w->clients[seat];
        struct event model = {.kind = EVENT_TO_WORKER, .seat = seat, .process = k->process, .peer = item->peer};
        if (k->alive && peer_equal(&k->peer, &item->peer))
            transmit(w, &model, &w->last_down_us[seat], &item->msg);
    }
}

/* ---- what goes wrong ---- */

static void strike(struct world *w)
{
    uint32_t seat = (uint32_t)world_between(w, 0, CLIENTS - 1);
    struct stream_client *k = &w->clients[seat];
    switch (world_between(w, 0, 7)) {
    case 0:
    case 1:
        if (w->server.alive) {
            world_trace(w, "the server crashes");
            server_crash(w);
            w->crashes++;
            world_schedule(w, EVENT_RESTART, 0, 0, world_between(w, 1, 3000) * MILLISECONDS);
        }
        break;
    case 2:
        if (w->server.alive)
            server_signal(w);
        break;
    case 3:
        if (k->alive)
            client_crash(w, seat);
        world_schedule(w, EVENT_SEAT, seat, 0, world_between(w, 1, 3000) * MILLISECONDS);
        break;
    case 4:
        k->frozen_until_us = w->events.now_us + world_between(w, 100, 8000) * MILLISECONDS;
        break;
    case 5:
        w->server.frozen_until_us = w->events.now_us + world_between(w, 100, 8000) * MILLISECONDS;
        break;
    case 6:
        if (k->alive)
            client_reconnect(w, seat);
        break;
    default:
        w->partitioned_until_us[seat] = w->events.now_us + world_between(w, 100, 6000) * MILLISECONDS;
    }
}

static void on_fault(struct world *w)
{
    if (w->healed)
        return;
    strike(w);
    world_schedule(w, EVENT_FAULT, 0, 0, world_between(w, 1, 2 * w->fault_every_us));
}

/* ---- the run ---- */

static void draw(struct world *w, uint64_t seed)
{
    char text[SETS][64];
    const char *sets[SETS];
    struct error e = {0};
    rng_open(&w->rng, seed, RNG_JITTER, STREAM_SCENARIO, 0, 0);
    size_t n = 0;
    snprintf(text[n++], 64, "run.mode=stream");
    snprintf(text[n++], 64, "run.name=stream");
    snprintf(text[n++], 64, "run.seed=%" PRIu64, seed % 1000);
    snprintf(text[n++], 64, "mixture.components=%" PRIu64, world_between(w, 4, 12));
    snprintf(text[n++], 64, "mixture.dimensions=%" PRIu64, world_between(w, 2, 4));
    snprintf(text[n++], 64, "mixture.reseed_usage=0.5");
    snprintf(text[n++], 64, "stream.contributions=%" PRIu64, world_between(w, 1, 7));
    snprintf(text[n++], 64, "stream.version_ms=%" PRIu64, world_between(w, 10, 500));
    snprintf(text[n++], 64, "stream.window=%" PRIu64, world_between(w, 1, 8));
    snprintf(text[n++], 64, "stream.keep=%" PRIu64, world_between(w, 8, 40));
    snprintf(text[n++], 64, "stream.checkpoint_ms=%" PRIu64, world_between(w, 100, 4000));
    snprintf(text[n++], 64, "run.checkpoint_every=%" PRIu64, world_between(w, 2, 50));
    for (size_t i = 0; i < n; i++)
        sets[i] = text[i];
    if (run_config_load(&w->config, NULL, NULL, sets, n, &e) != 0) {
        fprintf(stderr, "stream: %s\n", e.text);
        exit(2);
    }
    w->loss_percent = world_chance(w, 50) ? (uint32_t)world_between(w, 1, 30) : 0;
    w->duplicate_percent = world_chance(w, 50) ? (uint32_t)world_between(w, 1, 50) : 0;
    w->late_percent = world_chance(w, 30) ? (uint32_t)world_between(w, 1, 10) : 0;
    w->reorder = world_chance(w, 60);
    w->fault_every_us = world_between(w, 200, 3000) * MILLISECONDS;
    w->heal_us = w->events.now_us + world_between(w, 3, 30) * SECONDS;
}

static void heal(struct world *w)
{
    w->healed = true;
    w->deadline_us = w->events.now_us + PATIENCE_S * SECONDS;
    world_trace(w, "nothing goes wrong any more");
    for (uint32_t seat = 0; seat < CLIENTS; seat++)
        if (!w->clients[seat].alive)
            client_start(w, seat);
}

static bool all_done(const struct world *w)
{
    for (uint32_t seat = 0; seat < CLIENTS; seat++)
        if (!client_done(&w->clients[seat]))
            return false;
    return true;
}

static void look(struct world *w)
{
    if (!w->healed && w->events.now_us >= w->heal_us)
        heal(w);
    if (w->healed && !w->ending && w->server.alive && all_done(w)) {
        w->ending = true;
        server_signal(w);
    }
    if (w->healed && w->events.now_us > w->deadline_us)
        world_fail(w, "stuck: the server %s, version %" PRIu64 ", %u of %d clients done",
                   w->server.alive ? "is up" : "is down", w->accepted.version, all_done(w) ? CLIENTS : 0, CLIENTS);
    if (w->handled++ > EVENTS_MAX)
        world_fail(w, "too many events");
}

/* False when it is for a process that is no more, or was put off; *e is NULL then if it was. */
static bool arrives(struct world *w, struct event **e)
{
    enum event_kind kind = (*e)->kind;
    bool to_server = kind == EVENT_TO_SERVER || kind == EVENT_SERVER_TIMER || kind == EVENT_WRITTEN;
    bool to_client = kind == EVENT_TO_WORKER || kind == EVENT_WORKER_TIMER;
    const struct stream_client *k = &w->clients[(*e)->seat];
    if (to_server && (!w->server.alive || (kind != EVENT_TO_SERVER && w->server.process != (*e)->process)))
        return false;
    if (to_client && (!k->alive || k->process != (*e)->process))
        return false;
    if (kind == EVENT_TO_WORKER && !peer_equal(&k->peer, &(*e)->peer))
        return false; /* to a connection that is no more */
    uint64_t until = to_server && kind != EVENT_WRITTEN ? w->server.frozen_until_us
                     : to_client                        ? k->frozen_until_us
                                                        : 0;
    if (until <= w->events.now_us)
        return true;
    events_add(&w->events, until, *e);
    *e = NULL;
    return false;
}

static void handle(struct world *w, struct event *e)
{
    switch (e->kind) {
    case EVENT_TO_SERVER:
        server_on_message(w, e);
        break;
    case EVENT_TO_WORKER:
        client_on_message(w, e->seat, &e->msg);
        break;
    case EVENT_SERVER_TIMER:
        server_on_timer(w);
        break;
    case EVENT_WORKER_TIMER:
        client_on_timer(w, e->seat);
        break;
    case EVENT_WRITTEN:
        server_on_written(w);
        break;
    case EVENT_RESTART:
        if (!w->server.alive)
            server_start(w);
        break;
    case EVENT_SEAT:
        if (!w->clients[e->seat].alive)
            client_start(w, e->seat);
        break;
    default:
        on_fault(w);
    }
}

static void note(struct world *w, const struct event *e)
{
    bool message = e->kind == EVENT_TO_SERVER || e->kind == EVENT_TO_WORKER;
    const uint64_t facts[] = {
        w->trace, e->at_us, e->kind, e->seat, message ? e->msg.type : 0, message ? e->msg.seq : 0};
    w->trace = XXH3_64bits(facts, sizeof facts);
    if (message)
        world_trace(w, "seat %u %s %s worker=%" PRIx64 " seq=%" PRIu64 " code=%u applied=%g durable=%g credit=%g",
                    e->seat, e->kind == EVENT_TO_SERVER ? "->" : "<-", msg_type_name(e->msg.type), e->msg.worker,
                    e->msg.seq, e->msg.code, msg_scalar(&e->msg, "applied", 0), msg_scalar(&e->msg, "durable", 0),
                    msg_scalar(&e->msg, "credit", 0));
}

void world_run(struct world *w, uint64_t seed, bool verbose)
{
    memset(w, 0, sizeof *w);
    w->seed = seed;
    w->verbose = verbose;
    events_init(&w->events);
    draw(w, seed);
    server_start(w);
    for (uint32_t seat = 0; seat < CLIENTS; seat++)
        client_start(w, seat);
    world_schedule(w, EVENT_FAULT, 0, 0, world_between(w, 1, 2 * w->fault_every_us));
    while (w->failure[0] == '\0' && !w->over) {
        struct event *e = events_take(&w->events);
        ASSERT(e != NULL);
        if (arrives(w, &e)) {
            note(w, e);
            handle(w, e);
        }
        if (e != NULL)
            event_free(&e);
        if (!w->over)
            look(w);
    }
    w->over = true;
    if (w->server.alive || w->server.written.present)
        server_crash(w);
    events_fini(&w->events);
}
