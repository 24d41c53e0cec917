/* One small function for each call of the policy. */
#include "server/parameter/core_incarnation.h"

#include <inttypes.h>
#include "common/log.h"

/* A worker that is up answers within a round trip; one that starts may have to look names up and load its images. */
const struct incarnation_patience parameter_incarnation_patience = {
    .linger_ms = 300, .farewell_ms = 2000, .visit_ms = 45000};

static int begin(struct parameter_incarnation *p, struct error *e)
{
    return p->begin ? p->begin(p->arg, p->core, e) : 0;
}

static int create(void *arg, uint64_t generation, bool resume, struct error *e)
{
    struct parameter_incarnation *p = arg;
    struct encoder_state state;
    int rc = parameter_core_new(p->config, generation, &p->core);
    if (rc != 0)
        return error_set(e, rc, "out of memory");
    parameter_core_set_numerics(p->core, p->numerics);
    rc = resume ? p->find(p->arg, UINT64_MAX, &state, e) : ERR_NOT_FOUND;
    if (rc == ERR_NOT_FOUND) {
        if (resume)
            log_warn("event=resume_from_nothing cause=\"%s\"", e->text);
        return begin(p, e);
    }
    if (rc != 0)
        return rc;
    log_info("event=resumed step=%" PRIu64 " total_steps=%" PRIu64, state.step, state.total_steps);
    rc = provenance_take_server(&state.provenance, p->config, p->numerics, e);
    if (rc != 0) {
        encoder_state_fini(&state);
        return rc;
    }
    rc = parameter_core_resume(p->core, &state);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the checkpoint");
}

static uint64_t step(void *arg)
{
    return parameter_core_step(((struct parameter_incarnation *)arg)->core);
}

static uint64_t total_steps(void *arg)
{
    return parameter_core_total_steps(((struct parameter_incarnation *)arg)->core);
}

static size_t workers(void *arg)
{
    return parameter_core_workers(((struct parameter_incarnation *)arg)->core);
}

static bool stopped(void *arg)
{
    return parameter_core_stopped(((struct parameter_incarnation *)arg)->core);
}

static bool at_end(void *arg)
{
    return parameter_core_awaits_durable(((struct parameter_incarnation *)arg)->core);
}

static bool take_rewind(void *arg, uint64_t *step_max)
{
    return parameter_core_take_rewind(((struct parameter_incarnation *)arg)->core, step_max);
}

static int load(void *arg, uint64_t now, uint64_t generation, uint64_t step_max, struct error *e)
{
    struct parameter_incarnation *p = arg;
    struct encoder_state state;
    int rc = p->find(p->arg, step_max, &state, e);
    bool none = rc == ERR_NOT_FOUND;
    if (none)
        rc = begin(p, e);
    if (rc != 0)
        return rc;
    rc = parameter_core_rewind(p->core, now, generation, none ? NULL : &state, p->out);
    return rc == 0 ? 0 : error_set(e, rc, "out of memory for the checkpoint");
}

static int drain(void *arg, uint64_t now)
{
    struct parameter_incarnation *p = arg;
    return parameter_core_drain(p->core, now, p->out);
}

static int stop(void *arg, uint64_t now)
{
    struct parameter_incarnation *p = arg;
    return parameter_core_stop(p->core, now, p->out);
}

static int settle(void *arg, uint64_t now)
{
    struct parameter_incarnation *p = arg;
    return parameter_core_on_durable(p->core, now, p->out);
}

static void checkpoint(void *arg)
{
    struct parameter_incarnation *p = arg;
    struct encoder_state state;
    if (parameter_core_take_checkpoint(p->core, &state))
        p->submit(p->arg, &state);
}

static bool doubts_lineage(void *arg, const struct msg *m)
{
    return parameter_core_doubts_lineage(((struct parameter_incarnation *)arg)->core, m);
}

static void bound_lineage(void *arg, uint64_t newest)
{
    parameter_core_bound_lineage(((struct parameter_incarnation *)arg)->core, newest);
}

const struct incarnation_core parameter_incarnation_core = {
    .create = create,
    .step = step,
    .total_steps = total_steps,
    .workers = workers,
    .stopped = stopped,
    .at_end = at_end,
    .take_rewind = take_rewind,
    .load = load,
    .drain = drain,
    .stop = stop,
    .settle = settle,
    .checkpoint = checkpoint,
    .doubts_lineage = doubts_lineage,
    .bound_lineage = bound_lineage,
};
