/* Life cycle of the core and the calls from outside: each is one turn that ends with the granting of leases, so that
 * new weights leave before the leases on them. */
#include "server/parameter/core_state.h"

#include <inttypes.h>
#include <stdlib.h>
#include "common/log.h"

_Static_assert((int)WORKERS_MAX <= (int)LEASES_REQUESTS_MAX, "every worker's request finds room");

static struct schedule schedule_from_config(const struct run_config *c)
{
    return (struct schedule){
        .lr = c->optimiser.lr,
        .lr_end = c->optimiser.lr_end,
        .warmup = (uint64_t)c->optimiser.warmup,
        .ema_start = c->teacher.ema_start,
        .ema_end = c->teacher.ema_end,
        .steps = (uint64_t)c->run.steps,
    };
}

int parameter_core_new(const struct run_config *config, uint64_t generation, struct parameter_core **out)
{
    struct parameter_core *c = calloc(1, sizeof *c);
    if (c == NULL)
        return ERR_MEMORY;
    c->config = *config;
    c->hash = run_config_hash(config);
    c->generation = generation;
    c->lineage_max = UINT64_MAX;
    c->schedule = schedule_from_config(config);
    int rc = leases_new((uint32_t)config->run.slots, &c->leases);
    if (rc != 0)
        parameter_core_free(&c);
    *out = c;
    return rc;
}

void parameter_core_free(struct parameter_core **c)
{
    struct parameter_core *core = *c;
    *c = NULL;
    if (core == NULL)
        return;
    gradients_free(&core->gradients);
    if (core->ready)
        weights_fini(&core->weights);
    leases_free(&core->leases);
    free(core);
}

void parameter_core_set_numerics(struct parameter_core *c, uint64_t own)
{
    c->provenance.server_numerics = own;
}

void parameter_core_set_initial(struct parameter_core *c, const struct initial_weights *initial)
{
    c->initial = initial;
}

int parameter_core_resume(struct parameter_core *c, struct encoder_state *state)
{
    ASSERT(!c->ready);
    c->step = c->window_step = state->step;
    provenance_adopt(&c->provenance, &state->provenance);
    c->schedule.steps = state->total_steps;
    if (c->step >= c->schedule.steps)
        c->phase = PHASE_COMPLETE;
    return core_adopt_weights(c, &state->manifest, &state->vectors);
}

/* ---- going back ---- */

bool parameter_core_take_rewind(struct parameter_core *c, uint64_t *step_max)
{
    bool due = c->rewind_due;
    c->rewind_due = false;
    *step_max = c->rewind_max;
    return due;
}

/* Everything that a process loses when it ends. */
static void lose_memory(struct parameter_core *c)
{
    gradients_free(&c->gradients);
    if (c->ready)
        weights_fini(&c->weights);
    c->ready = false;
    c->step = c->window_step = 0;
    c->window_ms = 0;
    c->checkpoint_due = c->report_due = false;
    if (c->phase == PHASE_COMPLETE)
        c->phase = PHASE_RUNNING;
    leases_restart(c->leases);
}

int parameter_core_rewind(struct parameter_core *c, uint64_t now, uint64_t generation, struct encoder_state *state,
                          struct outbox *out)
{
    ASSERT(generation > c->generation && c->phase != PHASE_STOPPED);
    struct turn t = {.core = c, .now = now, .out = out};
    lose_memory(c);
    c->generation = generation;
    c->counters.rewinds++;
    if (state == NULL)
        return c->failed;
    core_note(c, parameter_core_resume(c, state));
    if (c->failed == 0)
        core_publish_weights(&t); /* tells every worker that there is a new generation */
    return c->failed;
}

void parameter_core_bound_lineage(struct parameter_core *c, uint64_t newest)
{
    c->lineage_max = newest;
}

bool parameter_core_doubts_lineage(const struct parameter_core *c, const struct msg *m)
{
    return core_lineage(m) > c->lineage_max;
}

bool parameter_core_awaits_durable(const struct parameter_core *c)
{
    return c->phase == PHASE_COMPLETE;
}

int parameter_core_on_durable(struct parameter_core *c, uint64_t now, struct outbox *out)
{
    ASSERT(c->phase == PHASE_COMPLETE);
    struct turn t = {.core = c, .now = now, .out = out};
    core_stop(&t, STOP_FINISHED);
    core_answer_requests(&t);
    return c->failed;
}

int parameter_core_on_message(struct parameter_core *c, uint64_t now, const struct peer *from, struct msg *m,
                              struct outbox *out)
{
    struct turn t = {.core = c, .now = now, .from = from, .m = m, .out = out};
    enum reason why = core_handle(&t);
    if (why != 0)
        core_refuse(c, from, m, why, t.detail.text, out);
    core_answer_requests(&t);
    return c->failed;
}

int parameter_core_on_undecodable(struct parameter_core *c, const struct peer *from, const struct msg *m,
                                  enum reason why, const char *detail, struct outbox *out)
{
    core_refuse(c, from, m, why, detail, out);
    return c->failed;
}

void parameter_core_on_undelivered(struct parameter_core *c, const struct outbox_item *item)
{
    if (item->kind == OUT_PEER && item->msg.type == MSG_LEASE && item->msg.step == c->step)
        for (uint32_t i = 0; i < item->msg.slots; i++)
            leases_release(c->leases, worker_handle(item->msg.worker, &item->peer), item->msg.slot + i);
}

/* A run without workers waits for as long as it takes, but not in silence. */
static void mind_absence(struct parameter_core *c, uint64_t now)
{
    if (c->workers.count > 0 || c->phase == PHASE_STOPPED) {
        c->workerless_ms = 0;
    } else if (c->workerless_ms == 0) {
        c->workerless_ms = now;
    } else if (now - c->workerless_ms >= PARAMETER_ABSENCE_MS) {
        log_warn("event=no_workers step=%" PRIu64
                 " hint=\"see the workers' logs, or start decant-worker with net.parameter = this server\"",
                 c->step);
        c->workerless_ms = 0;
    }
}

int parameter_core_on_timer(struct parameter_core *c, uint64_t now, struct outbox *out)
{
    struct turn t = {.core = c, .now = now, .out = out};
    struct worker gone;
    while (worker_table_take_silent(&c->workers, now, &gone)) {
        core_drop_worker(c, &gone, "silent");
        c->counters.workers_lost++;
    }
    mind_absence(c, now);
    if (c->phase == PHASE_DRAINING && (c->workers.count == 0 || now >= c->drain_until))
        core_stop(&t, STOP_DRAINED);
    core_answer_requests(&t);
    return c->failed;
}

int parameter_core_drain(struct parameter_core *c, uint64_t now, struct outbox *out)
{
    if (c->phase == PHASE_DRAINING || c->phase == PHASE_STOPPED)
        return c->failed;
    if (c->phase == PHASE_COMPLETE || !c->ready || c->schedule.steps == 0 || c->workers.count == 0)
        return parameter_core_stop(c, now, out);
    log_info("event=draining step=%" PRIu64 " missing=%u", c->step, gradients_missing(c->gradients));
    c->phase = PHASE_DRAINING;
    c->drain_until = now + PARAMETER_DRAIN_MS;
    return c->failed;
}

int parameter_core_stop(struct parameter_core *c, uint64_t now, struct outbox *out)
{
    struct turn t = {.core = c, .now = now, .out = out};
    if (c->phase != PHASE_STOPPED) {
        core_stop(&t, STOP_DRAINED);
        core_answer_requests(&t);
    }
    return c->failed;
}

/* ---- what is due ---- */

bool parameter_core_take_checkpoint(struct parameter_core *c, struct encoder_state *out)
{
    if (!c->checkpoint_due || c->failed != 0)
        return false;
    c->checkpoint_due = false;
    *out = (struct encoder_state){.step = c->step, .total_steps = c->schedule.steps, .provenance = c->provenance};
    core_note(c, manifest_copy(&out->manifest, &c->weights.manifest));
    out->vectors = weight_vectors_ref(&c->weights.vectors);
    if (c->failed != 0)
        encoder_state_fini(out);
    return c->failed == 0;
}

bool parameter_core_take_report(struct parameter_core *c, struct step_report *out)
{
    bool due = c->report_due;
    c->report_due = false;
    *out = c->report;
    return due;
}

bool parameter_core_stopped(const struct parameter_core *c)
{
    return c->phase == PHASE_STOPPED;
}

bool parameter_core_finished(const struct parameter_core *c)
{
    return c->phase == PHASE_STOPPED && c->stop_code == STOP_FINISHED;
}

uint64_t parameter_core_step(const struct parameter_core *c)
{
    return c->step;
}

size_t parameter_core_workers(const struct parameter_core *c)
{
    return c->workers.count;
}

uint64_t parameter_core_total_steps(const struct parameter_core *c)
{
    return c->schedule.steps;
}

const struct step_report_counters *parameter_core_counters(const struct parameter_core *c)
{
    return &c->counters;
}

const struct step_report *parameter_core_newest_report(const struct parameter_core *c)
{
    return &c->report;
}
