/* The server's process: the real core and policy, with a disk on which a checkpoint takes time, and is lost by a
 * crash. */
#include <inttypes.h>
#include "tests/sim/stream/stream_sim.h"

static uint64_t clock_ms(const struct world *w)
{
    return (w->events.now_us + w->server.clock_us) / MILLISECONDS;
}

/* ---- the disk ---- */

static void drop(struct checkpoint_image *c)
{
    if (!c->present)
        return;
    mixture_free(&c->mixture);
    ledger_free(&c->facts.ledger);
    *c = (struct checkpoint_image){0};
}

static int find(void *arg, uint64_t step_max, struct mixture **out, struct mixture_facts *facts, struct error *e)
{
    struct world *w = arg;
    const struct checkpoint_image *c = &w->server.written;
    (void)step_max;
    *out = NULL;
    check_resumed(w, c->present ? c->mixture->view->version : 0);
    if (!c->present)
        return error_set(e, ERR_NOT_FOUND, "none yet");
    *facts = c->facts;
    int rc = mixture_clone(c->mixture, out);
    if (rc == 0)
        rc = ledger_clone(c->facts.ledger, &facts->ledger);
    ASSERT(rc == 0);
    ledger_resumed(facts->ledger); /* as ledger_file.c does */
    facts->ledger->names = facts->ledger->began_ms = 0;
    return 0;
}

static void submit(void *arg, struct mixture *snapshot, const struct mixture_facts *facts)
{
    struct world *w = arg;
    struct checkpoint_image *c = &w->server.writing;
    if (c->present)
        world_fail(w, "a second checkpoint while one is being written");
    drop(c);
    *c = (struct checkpoint_image){true, snapshot, *facts};
    world_schedule(w, EVENT_WRITTEN, 0, w->server.process, world_between(w, 1, 300) * MILLISECONDS);
}

/* ---- the world of the incarnation ---- */

static int raise_generation(void *world, uint64_t *generation, struct error *e)
{
    (void)e;
    *generation = ++((struct world *)world)->server.generation;
    return 0;
}

static uint64_t other_generation(void *world)
{
    (void)world;
    return 0;
}

static bool step_complete(void *world, uint64_t step)
{
    const struct checkpoint_image *c = &((struct world *)world)->server.written;
    return c->present && c->mixture->view->version == step;
}

static bool writing(void *world)
{
    return ((struct world *)world)->server.writing.present;
}

static void send_outbox(void *world)
{
    struct world *w = world;
    for (size_t i = 0; i < w->server.out.count; i++)
        world_to_clients(w, &w->server.out.items[i]);
    outbox_clear(&w->server.out);
}

static const struct incarnation_world incarnation_world = {.raise_generation = raise_generation,
                                                           .other_generation = other_generation,
                                                           .step_complete = step_complete,
                                                           .writing = writing,
                                                           .send = send_outbox};

/* ---- life ---- */

void server_start(struct world *w)
{
    struct stream_server *s = &w->server;
    struct error e = {0};
    s->alive = true;
    s->process = ++w->processes;
    s->frozen_until_us = 0;
    s->clock_us = world_between(w, 1, 100000 * SECONDS);
    s->prototype =
        (struct prototype_incarnation){.config = &w->config, .out = &s->out, .find = find, .submit = submit, .arg = w};
    const struct incarnation_options o = {.server = SERVER_PROTOTYPE,
                                          .core = &prototype_incarnation_core,
                                          .core_arg = &s->prototype,
                                          .world = &incarnation_world,
                                          .world_arg = w};
    if (incarnation_start(&s->policy, &o, true, &e) != 0)
        world_fail(w, "the server does not start: %s", e.text);
    world_trace(w, "the server starts at version %" PRIu64 ", generation %" PRIu64, w->accepted.version,
                s->policy.generation);
    world_schedule(w, EVENT_SERVER_TIMER, 0, s->process, 10 * MILLISECONDS);
}

void server_crash(struct world *w)
{
    struct stream_server *s = &w->server;
    prototype_core_free(&s->prototype.core);
    outbox_fini(&s->out);
    s->out = (struct outbox){0};
    drop(&s->writing); /* atomic writes: a crash leaves the file of before */
    s->alive = false;
    s->process = 0;
    s->policy = (struct incarnation){0};
    if (w->over)
        drop(&s->written);
}

static void end_turn(struct world *w)
{
    struct stream_server *s = &w->server;
    check_turn(w);
    if (s->policy.error.code != 0)
        world_fail(w, "the server failed: %s", s->policy.error.text);
    if (!s->policy.leaving)
        return;
    world_trace(w, "the server leaves at version %" PRIu64, w->accepted.version);
    bool last = w->ending;
    server_crash(w);
    if (last) {
        check_end(w);
        w->over = true;
        drop(&s->written);
    } else {
        world_schedule(w, EVENT_RESTART, 0, 0, world_between(w, 1, 2000) * MILLISECONDS);
    }
}

void server_on_message(struct world *w, struct event *e)
{
    struct stream_server *s = &w->server;
    int rc = prototype_core_on_message(s->prototype.core, clock_ms(w), &e->peer, &e->msg, &s->out);
    check_answers(w, e, &s->out);
    incarnation_end_turn(&s->policy, clock_ms(w), rc);
    end_turn(w);
}

void server_on_timer(struct world *w)
{
    struct stream_server *s = &w->server;
    world_schedule(w, EVENT_SERVER_TIMER, 0, s->process, 10 * MILLISECONDS);
    int rc = prototype_core_on_timer(s->prototype.core, clock_ms(w), &s->out);
    incarnation_on_timer(&s->policy, clock_ms(w), rc);
    end_turn(w);
}

void server_signal(struct world *w)
{
    world_trace(w, "the server is told to end");
    incarnation_on_signal(&w->server.policy, clock_ms(w));
    end_turn(w);
}

void server_on_written(struct world *w)
{
    struct stream_server *s = &w->server;
    drop(&s->written);
    s->written = s->writing;
    s->writing = (struct checkpoint_image){0};
    world_trace(w, "version %" PRIu64 " is on disk", s->written.mixture->view->version);
    int rc = prototype_core_on_written(s->prototype.core, &s->out);
    ASSERT(rc == 0);
    incarnation_on_written(&s->policy, clock_ms(w), &(struct error){0});
    end_turn(w);
}
