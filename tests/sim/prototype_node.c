/* The prototype server's process: what server/prototype/service.c does, around the same core. */
#include <inttypes.h>
#include "tests/sim/sim.h"

static struct server_node *node(struct cluster *c)
{
    return &c->servers[SERVER_PROTOTYPE];
}

static void send_all(struct cluster *c)
{
    struct server_node *n = node(c);
    for (size_t i = 0; i < n->out.count; i++)
        (void)network_from_server(c, SERVER_PROTOTYPE, &n->out.items[i]);
    outbox_clear(&n->out);
}

static uint64_t version_of(const struct server_node *n)
{
    return prototype_core_mixture(n->prototype)->view->version;
}

static void check(struct cluster *c, int rc)
{
    if (rc != 0)
        sim_fail(c, "the prototype core failed: %s", error_name(rc));
}

static bool is_due(const struct cluster *c, uint64_t version)
{
    return version == c->scenario->steps || version % (uint64_t)c->scenario->config.run.checkpoint_every == 0;
}

static void on_version(struct cluster *c)
{
    struct server_node *n = node(c);
    const struct mixture *m = prototype_core_mixture(n->prototype);
    struct disk_file f = {.step = version_of(n), .total_steps = prototype_core_total_steps(n->prototype)};
    n->version_seen = f.step;
    checker_mixture(c, m);
    if (!is_due(c, f.step))
        return;
    check(c, mixture_clone(m, &f.mixture));
    server_submit(c, SERVER_PROTOTYPE, &f);
}

/* The mixture of the newest common step up to step_max; NULL when there is none. */
static struct mixture *load(struct cluster *c, uint64_t step_max, uint64_t *total_steps)
{
    uint64_t step = 0;
    bool found = disk_newest(&c->disk, SERVER_PROTOTYPE, step_max, &step);
    checker_resumed(c, SERVER_PROTOTYPE, found, step);
    *total_steps = found ? c->disk.files[step][SERVER_PROTOTYPE].total_steps : 0;
    return found ? disk_load_mixture(&c->disk, step) : NULL;
}

static void rewind_to(struct cluster *c, uint64_t step_max)
{
    struct server_node *n = node(c);
    uint64_t total_steps, from = version_of(n), generation = disk_raise_generation(&c->disk, SERVER_PROTOTYPE);
    struct mixture *m = load(c, step_max, &total_steps);
    check(c, prototype_core_rewind(n->prototype, generation, m, &n->out));
    pairing_begin(&n->pairing, c->disk.generation[SERVER_PARAMETER], version_of(n));
    n->version_seen = version_of(n);
    sim_trace(c, "prototype goes back from %" PRIu64 " to %" PRIu64 " (at most %" PRIu64 "), generation %" PRIu64, from,
              n->version_seen, step_max, generation);
    checker_mixture(c, prototype_core_mixture(n->prototype));
    send_all(c);
}

static void end_turn(struct cluster *c, int rc)
{
    struct server_node *n = node(c);
    uint64_t step_max;
    check(c, rc);
    send_all(c);
    if (version_of(n) != n->version_seen)
        on_version(c);
    if (pairing_due(&n->pairing, version_of(n)))
        pairing_note(&n->pairing, c->disk.generation[SERVER_PARAMETER], version_of(n));
    if (prototype_core_take_rewind(n->prototype, &step_max) &&
        pairing_may_go_back(&n->pairing, c->disk.generation[SERVER_PARAMETER])) {
        checker_rewind(c, SERVER_PROTOTYPE);
        rewind_to(c, step_max);
    }
    checker_pair(c);
    if (version_of(n) == c->scenario->steps && disk_complete(&c->disk, c->scenario->steps))
        server_kill(c, SERVER_PROTOTYPE, 0); /* its work is done */
}

void prototype_node_start(struct cluster *c)
{
    struct server_node *n = node(c);
    struct error e = {0};
    struct prototype_core_options o = {.config = &c->scenario->config,
                                       .generation = disk_raise_generation(&c->disk, SERVER_PROTOTYPE)};
    o.resumed = load(c, UINT64_MAX, &o.total_steps);
    check(c, prototype_core_new(&o, &n->prototype, &e));
    pairing_begin(&n->pairing, c->disk.generation[SERVER_PARAMETER], version_of(n));
    n->version_seen = version_of(n);
    sim_trace(c, "prototype starts at version %" PRIu64 ", generation %" PRIu64, n->version_seen, o.generation);
    checker_mixture(c, prototype_core_mixture(n->prototype));
}

void prototype_node_on_message(struct cluster *c, struct event *e)
{
    struct server_node *n = node(c);
    int rc = prototype_core_on_message(n->prototype, server_clock_ms(c, SERVER_PROTOTYPE), &e->peer, &e->msg, &n->out);
    checker_answer(c, SERVER_PROTOTYPE, &e->msg, &e->peer, &n->out);
    end_turn(c, rc);
}

void prototype_node_on_timer(struct cluster *c)
{
    struct server_node *n = node(c);
    end_turn(c, prototype_core_on_timer(n->prototype, server_clock_ms(c, SERVER_PROTOTYPE), &n->out));
}
