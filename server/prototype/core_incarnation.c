/* One small function for each call of the policy. */
#include "server/prototype/core_incarnation.h"

#include <inttypes.h>
#include "common/log.h"

static uint64_t version_of(const struct prototype_incarnation *p)
{
    return prototype_core_mixture(p->core)->view->version;
}

static int create(void *arg, uint64_t generation, bool resume, struct error *e)
{
    struct prototype_incarnation *p = arg;
    struct prototype_core_options o = {.config = p->config, .generation = generation};
    int rc = resume ? p->find(p->arg, UINT64_MAX, &o.resumed, &o.facts, e) : 0;
    if (rc == ERR_NOT_FOUND)
        log_warn("event=resume_from_nothing cause=\"%s\"", e->text);
    else if (rc != 0)
        return rc;
    bool resumed = o.resumed != NULL;
    if (resumed) {
        rc = provenance_take_server(&o.facts.provenance, p->config, p->numerics, e);
    } else {
        o.facts.provenance.server_numerics = p->numerics;
        rc = p->begin ? p->begin(p->arg, &o.initial, &o.facts.provenance.init, e) : 0;
    }
    if (rc == 0)
        rc = prototype_core_new(&o, &p->core, e);
    if (rc != 0) {
        mixture_free(&o.resumed);
        ledger_free(&o.facts.ledger);
        return rc;
    }
    const struct mixture_options *m = &prototype_core_mixture(p->core)->options;
    log_info("event=%s step=%" PRIu64 " generation=%" PRIu64 " components=%u dimensions=%u",
             resumed ? "resumed" : "started", version_of(p), generation, m->K, m->D);
    return 0;
}

static uint64_t step(void *arg)
{
    return version_of(arg);
}

static uint64_t total_steps(void *arg)
{
    return prototype_core_total_steps(((struct prototype_incarnation *)arg)->core);
}

static size_t workers(void *arg)
{
    return prototype_core_workers(((struct prototype_incarnation *)arg)->core)->count;
}

static bool stopped(void *arg)
{
    return prototype_core_stopped(((struct prototype_incarnation *)arg)->core);
}

static bool at_end(void *arg)
{
    return version_of(arg) > 0 && version_of(arg) == total_steps(arg) && !stopped(arg);
}

static bool take_rewind(void *arg, uint64_t *step_max)
{
    return prototype_core_take_rewind(((struct prototype_incarnation *)arg)->core, step_max);
}

/* A process that resumed has not looked at what its run began with. */
static int begin_again(struct prototype_incarnation *p, struct error *e)
{
    const struct mixture *initial = NULL;
    uint64_t fingerprint = 0;
    int rc = p->begin ? p->begin(p->arg, &initial, &fingerprint, e) : 0;
    if (rc == 0)
        prototype_core_set_initial(p->core, initial, fingerprint);
    return rc;
}

static int load(void *arg, uint64_t now, uint64_t generation, uint64_t step_max, struct error *e)
{
    struct prototype_incarnation *p = arg;
    struct mixture *resumed = NULL;
    struct mixture_facts facts = {0}; /* the workers of this process have told them */
    (void)now;
    int rc = p->find(p->arg, step_max, &resumed, &facts, e);
    if (rc == ERR_NOT_FOUND)
        rc = begin_again(p, e);
    if (rc != 0)
        return rc;
    rc = prototype_core_rewind(p->core, generation, resumed, p->out);
    if (rc == 0)
        return 0;
    mixture_free(&resumed);
    return error_set(e, rc, "out of memory for the checkpoint");
}

static int drain(void *arg, uint64_t now)
{
    prototype_core_drain(((struct prototype_incarnation *)arg)->core, now);
    return 0;
}

static int stop(void *arg, uint64_t now)
{
    (void)now;
    prototype_core_stop(((struct prototype_incarnation *)arg)->core);
    return 0;
}

static void checkpoint(void *arg)
{
    struct prototype_incarnation *p = arg;
    struct mixture *snapshot;
    struct ledger *ledger;
    if (prototype_core_take_checkpoint(p->core, &snapshot, &ledger))
        p->submit(
            p->arg, snapshot,
            &(struct mixture_facts){prototype_core_total_steps(p->core), *prototype_core_provenance(p->core), ledger});
}

const struct incarnation_core prototype_incarnation_core = {
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
    .settle = stop,
    .checkpoint = checkpoint,
};
