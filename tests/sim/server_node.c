/* A server's process: the real core and the real policy (server/shell/incarnation.h), with the simulator's disk and
 * network in place of what server/shell/shell.c has around them. */
#include <inttypes.h>
#include "tests/sim/sim.h"

/* Both servers alike, as in service.c of each. */
enum { PROTOTYPE_TIMER_MS = 1000 };

static uint64_t clock_ms(const struct server_node *n)
{
    return server_clock_ms(n->cluster, n->server);
}

/* ---- the world of the incarnation ---- */

static int raise_generation(void *world, uint64_t *generation, struct error *e)
{
    struct server_node *n = world;
    (void)e;
    *generation = disk_raise_generation(&n->cluster->disk, n->server);
    return 0;
}

static uint64_t other_generation(void *world)
{
    const struct server_node *n = world;
    return n->cluster->disk.generation[server_other(n->server)];
}

static bool step_complete(void *world, uint64_t step)
{
    return disk_present(&((struct server_node *)world)->cluster->disk, step);
}

static bool writing(void *world)
{
    const struct server_node *n = world;
    return n->cluster->disk.writers[n->server].busy;
}

static void send_outbox(void *world)
{
    struct server_node *n = world;
    for (size_t i = 0; i < n->out.count; i++)
        if (!network_from_server(n->cluster, n->server, &n->out.items[i]) && n->server == SERVER_PARAMETER)
            parameter_core_on_undelivered(n->parameter.core, &n->out.items[i]);
    outbox_clear(&n->out);
}

static const struct incarnation_world world = {.raise_generation = raise_generation,
                                               .other_generation = other_generation,
                                               .step_complete = step_complete,
                                               .writing = writing,
                                               .send = send_outbox};

/* ---- checkpoints ---- */

static int find_step(struct server_node *n, uint64_t step_max, uint64_t *step)
{
    bool found = disk_newest(&n->cluster->disk, n->server, step_max, step);
    checker_resumed(n->cluster, n->server, found, found ? *step : 0);
    return found ? 0 : ERR_NOT_FOUND;
}

static int find_encoder(void *arg, uint64_t step_max, struct encoder_state *out, struct error *e)
{
    struct server_node *n = arg;
    uint64_t step;
    int rc = find_step(n, step_max, &step);
    (void)e;
    if (rc == 0)
        *out = disk_load_encoder(&n->cluster->disk, step);
    return rc;
}

static void submit_encoder(void *arg, struct encoder_state *state)
{
    struct server_node *n = arg;
    checker_encoder(n->cluster, state);
    if (state->provenance.data != 1 + n->cluster->scenario->number || state->provenance.data_before != 0)
        sim_fail(n->cluster, "the checkpoint of step %" PRIu64 " does not know its images", state->step);
    struct disk_file f = {.step = state->step, .total_steps = state->total_steps, .encoder = *state};
    server_submit(n->cluster, n->server, &f);
}

static int find_mixture(void *arg, uint64_t step_max, struct mixture **out, struct mixture_facts *facts,
                        struct error *e)
{
    struct server_node *n = arg;
    uint64_t step;
    int rc = find_step(n, step_max, &step);
    (void)e;
    *out = rc == 0 ? disk_load_mixture(&n->cluster->disk, step) : NULL;
    if (rc == 0)
        *facts = (struct mixture_facts){.total_steps = n->cluster->disk.files[step][n->server].total_steps,
                                        .provenance = n->cluster->disk.files[step][n->server].provenance};
    return rc;
}

static void submit_mixture(void *arg, struct mixture *snapshot, const struct mixture_facts *facts)
{
    struct server_node *n = arg;
    if (facts->provenance.data != 1 + n->cluster->scenario->number || facts->provenance.data_before != 0)
        sim_fail(n->cluster, "the mixture's checkpoint does not know its images");
    struct disk_file f = {.step = snapshot->view->version,
                          .total_steps = facts->total_steps,
                          .mixture = snapshot,
                          .provenance = facts->provenance};
    server_submit(n->cluster, n->server, &f);
}

/* ---- life ---- */

uint64_t server_node_step(const struct server_node *n)
{
    return n->server == SERVER_PARAMETER ? parameter_core_step(n->parameter.core)
                                         : prototype_core_mixture(n->prototype.core)->view->version;
}

static struct incarnation_options options_of(struct server_node *n)
{
    struct incarnation_options o = {.server = n->server, .world = &world, .world_arg = n};
    if (n->server == SERVER_PARAMETER) {
        o.core = &parameter_incarnation_core;
        o.core_arg = &n->parameter;
        o.patience = parameter_incarnation_patience;
    } else {
        o.core = &prototype_incarnation_core;
        o.core_arg = &n->prototype;
    }
    return o;
}

void server_node_start(struct server_node *n)
{
    const struct run_config *config = &n->cluster->scenario->config;
    struct error e = {0};
    n->parameter = (struct parameter_incarnation){
        .config = config, .out = &n->out, .find = find_encoder, .submit = submit_encoder, .arg = n};
    n->prototype = (struct prototype_incarnation){
        .config = config, .out = &n->out, .find = find_mixture, .submit = submit_mixture, .arg = n};
    if (n->server == SERVER_PARAMETER)
        n->cluster->checker.lineage = 0;
    const struct incarnation_options o = options_of(n);
    int rc = incarnation_start(&n->policy, &o, true, &e);
    if (rc != 0)
        sim_fail(n->cluster, "the %s server does not start: %s", server_name(n->server), e.text);
    n->version_seen = UINT64_MAX;
    n->generation_seen = n->policy.generation;
    sim_trace(n->cluster, "%s starts at step %" PRIu64 ", generation %" PRIu64, server_name(n->server),
              server_node_step(n), n->policy.generation);
}

void server_node_free(struct server_node *n)
{
    if (n->cluster != NULL) {
        n->cluster->checker.rewinds_refused += n->policy.rewinds_refused;
        n->cluster->checker.pairs_stuck += n->policy.pairs_stuck;
    }
    n->policy = (struct incarnation){0};
    parameter_core_free(&n->parameter.core);
    prototype_core_free(&n->prototype.core);
    outbox_fini(&n->out);
}

/* ---- turns ---- */

/* What it did of itself in the turn. */
static void look_back(struct server_node *n)
{
    struct cluster *c = n->cluster;
    if (n->generation_seen != n->policy.generation) {
        sim_trace(c, "%s goes back to %" PRIu64 ", generation %" PRIu64, server_name(n->server), server_node_step(n),
                  n->policy.generation);
        checker_rewind(c, n->server);
        n->generation_seen = n->policy.generation;
        n->version_seen = UINT64_MAX;
    }
    if (n->server == SERVER_PROTOTYPE && n->version_seen != server_node_step(n)) {
        n->version_seen = server_node_step(n);
        checker_mixture(c, prototype_core_mixture(n->prototype.core));
    }
    checker_pair(c);
}

static void end_turn(struct server_node *n)
{
    struct cluster *c = n->cluster;
    struct step_report report;
    const struct incarnation *in = &n->policy;
    look_back(n);
    if (n->server == SERVER_PARAMETER)
        parameter_core_take_report(n->parameter.core, &report);
    if (in->error.code != 0)
        sim_fail(c, "the %s server failed: %s", server_name(n->server), in->error.text);
    if (n->server == SERVER_PARAMETER && in->settled)
        cluster_over(c);
    if (!in->leaving)
        return;
    sim_trace(c, "%s leaves at step %" PRIu64, server_name(n->server), server_node_step(n));
    checker_left(c, n->server, in->settled);
    server_kill(c, n->server, in->settled ? 0 : sim_between(c, 1, 2000) * MILLISECONDS);
}

void server_node_on_message(struct server_node *n, struct event *e)
{
    struct msg seen = e->msg; /* its tensors may be taken */
    int rc;
    incarnation_before_message(&n->policy, &e->msg);
    if (n->server == SERVER_PARAMETER)
        rc = parameter_core_on_message(n->parameter.core, clock_ms(n), &e->peer, &e->msg, &n->out);
    else
        rc = prototype_core_on_message(n->prototype.core, clock_ms(n), &e->peer, &e->msg, &n->out);
    checker_answer(n->cluster, n->server, &seen, e, &n->out);
    incarnation_end_turn(&n->policy, clock_ms(n), rc);
    end_turn(n);
}

uint64_t server_node_timer_ms(const struct server_node *n)
{
    return n->server == SERVER_PARAMETER ? PARAMETER_TIMER_MS : PROTOTYPE_TIMER_MS;
}

void server_node_on_timer(struct server_node *n)
{
    int rc = n->server == SERVER_PARAMETER ? parameter_core_on_timer(n->parameter.core, clock_ms(n), &n->out)
                                           : prototype_core_on_timer(n->prototype.core, clock_ms(n), &n->out);
    incarnation_on_timer(&n->policy, clock_ms(n), rc);
    end_turn(n);
}

void server_node_on_signal(struct server_node *n)
{
    incarnation_on_signal(&n->policy, clock_ms(n));
    end_turn(n);
}

void server_node_on_written(struct server_node *n)
{
    incarnation_on_written(&n->policy, clock_ms(n), &(struct error){0});
    end_turn(n);
}
