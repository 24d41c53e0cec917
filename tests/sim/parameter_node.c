/* The parameter server's process: what server/parameter/service.c does, around the same core. */
#include <inttypes.h>
#include "tests/sim/sim.h"

static struct server_node *node(struct cluster *c)
{
    return &c->servers[SERVER_PARAMETER];
}

static void send_all(struct cluster *c)
{
    struct server_node *n = node(c);
    for (size_t i = 0; i < n->out.count; i++)
        if (!network_from_server(c, SERVER_PARAMETER, &n->out.items[i]))
            parameter_core_on_undelivered(n->parameter, &n->out.items[i]);
    outbox_clear(&n->out);
}

static void submit(struct cluster *c, struct encoder_state *state)
{
    checker_encoder(c, state);
    struct disk_file f = {.step = state->step, .total_steps = state->total_steps, .encoder = *state};
    server_submit(c, SERVER_PARAMETER, &f);
}

static void check(struct cluster *c, int rc)
{
    if (rc != 0)
        sim_fail(c, "the parameter core failed: %s", error_name(rc));
}

static void rewind_to(struct cluster *c, uint64_t step_max)
{
    struct server_node *n = node(c);
    uint64_t step = 0, generation = disk_raise_generation(&c->disk, SERVER_PARAMETER);
    bool found = disk_newest(&c->disk, SERVER_PARAMETER, step_max, &step);
    struct encoder_state state;
    if (found)
        state = disk_load_encoder(&c->disk, step);
    sim_trace(c, "parameter goes back from %" PRIu64 " to %" PRIu64 " (at most %" PRIu64 "), generation %" PRIu64,
              parameter_core_step(n->parameter), step, step_max, generation);
    checker_resumed(c, SERVER_PARAMETER, found, step);
    pairing_begin(&n->pairing, c->disk.generation[SERVER_PROTOTYPE], step);
    check(c, parameter_core_rewind(n->parameter, server_clock_ms(c, SERVER_PARAMETER), generation,
                                   found ? &state : NULL, &n->out));
    send_all(c);
}

static void end_turn(struct cluster *c, int rc)
{
    struct server_node *n = node(c);
    struct encoder_state state;
    struct step_report report;
    uint64_t step_max;
    check(c, rc);
    send_all(c);
    if (parameter_core_take_checkpoint(n->parameter, &state))
        submit(c, &state);
    parameter_core_take_report(n->parameter, &report);
    if (pairing_due(&n->pairing, parameter_core_step(n->parameter)))
        pairing_note(&n->pairing, c->disk.generation[SERVER_PROTOTYPE], parameter_core_step(n->parameter));
    if (parameter_core_take_rewind(n->parameter, &step_max) &&
        pairing_may_go_back(&n->pairing, c->disk.generation[SERVER_PROTOTYPE])) {
        checker_rewind(c, SERVER_PARAMETER);
        rewind_to(c, step_max);
    }
    if (parameter_core_awaits_durable(n->parameter) && disk_complete(&c->disk, c->scenario->steps)) {
        check(c, parameter_core_on_durable(n->parameter, server_clock_ms(c, SERVER_PARAMETER), &n->out));
        send_all(c);
    }
    checker_pair(c);
    if (parameter_core_finished(n->parameter))
        cluster_over(c);
}

void parameter_node_start(struct cluster *c)
{
    struct server_node *n = node(c);
    uint64_t step = 0, generation = disk_raise_generation(&c->disk, SERVER_PARAMETER);
    c->checker.lineage = 0;
    int rc = parameter_core_new(&c->scenario->config, generation, &n->parameter);
    bool found = disk_newest(&c->disk, SERVER_PARAMETER, UINT64_MAX, &step);
    if (rc == 0 && found) {
        struct encoder_state state = disk_load_encoder(&c->disk, step);
        rc = parameter_core_resume(n->parameter, &state);
    }
    sim_trace(c, "parameter starts at step %" PRIu64 ", generation %" PRIu64, step, generation);
    checker_resumed(c, SERVER_PARAMETER, found, step);
    pairing_begin(&n->pairing, c->disk.generation[SERVER_PROTOTYPE], step);
    check(c, rc);
}

void parameter_node_on_message(struct cluster *c, struct event *e)
{
    struct server_node *n = node(c);
    struct msg seen = e->msg; /* its tensors may be taken */
    int rc = parameter_core_on_message(n->parameter, server_clock_ms(c, SERVER_PARAMETER), &e->peer, &e->msg, &n->out);
    checker_answer(c, SERVER_PARAMETER, &seen, &e->peer, &n->out);
    end_turn(c, rc);
}

/* Step T is whole on disk, left from before this server went back: the run is over, and the prototype server, seeing
 * the same files, has left. */
static void jump_to_the_end(struct cluster *c)
{
    uint64_t T = c->scenario->steps, step = 0;
    if (parameter_core_step(node(c)->parameter) < T && disk_newest(&c->disk, SERVER_PARAMETER, UINT64_MAX, &step) &&
        step == T)
        rewind_to(c, T);
}

void parameter_node_on_timer(struct cluster *c)
{
    struct server_node *n = node(c);
    jump_to_the_end(c);
    end_turn(c, parameter_core_on_timer(n->parameter, server_clock_ms(c, SERVER_PARAMETER), &n->out));
}
