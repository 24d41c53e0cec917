/* Messages: is it of this run (admission), and what does its type ask for (the doors). A handler returns 0 or the
 * reason to refuse; a refused message changes nothing. */
#include "server/parameter/core_state.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/log.h"
#include "common/version.h"

static const double LINEAGE_MAX = 1LL << 53; /* whole numbers that a scalar carries */

static enum reason on_hello(struct turn *t)
{
    struct parameter_core *c = t->core;
    struct worker *w = t->worker;
    if (w != NULL)
        log_info("event=hello worker=%016" PRIx64 " host=%s step=%" PRIu64, w->id, w->host, c->step);
    struct msg welcome = core_begin(c, MSG_WELCOME);
    welcome.code = c->ready ? 0 : 1;
    snprintf(welcome.text, sizeof welcome.text, DECANT_VERSION);
    core_note(c, msg_add_scalar(&welcome, "total_steps", (double)c->schedule.steps));
    core_note(c, msg_add_scalar(&welcome, "slots", (double)c->config.run.slots));
    core_note(c, msg_add_scalar(&welcome, "slot_size", (double)c->config.run.slot_size));
    core_reply(t, &welcome);
    return 0;
}

/* Contributions of an older lineage than this one count no more: what they rest upon may be lost, and nobody would
 * compute it again for a slot that is done here. Steps that are over are the business of REWIND. */
static void on_lineage(struct turn *t, uint64_t lineage)
{
    struct parameter_core *c = t->core;
    if (lineage <= c->lineage || lineage > c->lineage_max)
        return;
    c->lineage = lineage;
    if (!c->ready || c->phase >= PHASE_COMPLETE || gradients_missing(c->gradients) == (uint32_t)c->config.run.slots)
        return;
    log_warn("event=step_redone step=%" PRIu64 " lineage=%" PRIu64 " cause=\"the prototype server was restarted\"",
             c->step, lineage);
    core_redo_step(c);
}

uint64_t core_lineage(const struct msg *m)
{
    double lineage = msg_scalar(m, "lineage", 0);
    return lineage > 0 && lineage <= LINEAGE_MAX ? (uint64_t)lineage : 0;
}

static enum reason on_ping(struct turn *t)
{
    struct parameter_core *c = t->core;
    struct msg pong = core_begin(c, MSG_PONG);
    pong.seq = t->m->seq;
    core_reply(t, &pong);
    struct worker *w = t->worker;
    if (w != NULL)
        on_lineage(t, core_lineage(t->m));
    if (t->m->code == 1 && w != NULL) {
        core_drop_worker(c, w, "goodbye");
        worker_table_forget(&c->workers, w->handle);
    }
    return 0;
}

/* Takes the tensor's data out of the message. */
static struct buf *take_data(struct msg *m, const struct msg_tensor *tensor)
{
    struct buf **data = &m->tensors[tensor - m->tensors].data;
    struct buf *taken = *data;
    *data = NULL;
    return taken;
}

/* The data of a checked vector of n floats; stays NULL when n is 0, for empty tensors are not sent. */
static enum reason check_vector(const struct msg *m, const char *name, uint64_t n, const struct msg_tensor **out)
{
    enum reason why = 0;
    *out = n > 0 ? msg_tensor_checked(m, name, DTYPE_F32, 1, &n, &why) : NULL;
    return why;
}

/* The given weights over the worker's. */
static int apply_initial(struct parameter_core *c, const struct manifest *m, const struct weight_vectors *v)
{
    struct initial_counts counts;
    struct error e = {0};
    float *buffers = v->buffers ? (float *)(void *)v->buffers->data : NULL;
    if (c->initial == NULL)
        return 0;
    int rc = initial_weights_apply(c->initial, m, (float *)(void *)v->student->data, buffers, &counts, &e);
    if (rc != 0)
        log_error("event=init_failed cause=\"%s\"", e.text);
    c->provenance.init = initial_weights_fingerprint(c->initial);
    return rc;
}

static enum reason first_weights(struct turn *t, struct manifest *manifest)
{
    const struct msg_tensor *params, *buffers;
    if (manifest->parameter_floats == 0 || !weights_file_names_fit(manifest)) {
        error_set(&t->detail, ERR_RANGE, "no parameters, or a name longer than a checkpoint can hold");
        return REASON_BAD_VALUE;
    }
    enum reason why = check_vector(t->m, "params", manifest->parameter_floats, &params);
    if (why == 0)
        why = check_vector(t->m, "buffers", manifest->buffer_floats, &buffers);
    if (why != 0)
        return why;
    struct weight_vectors vectors = {.student = take_data(t->m, params),
                                     .buffers = buffers ? take_data(t->m, buffers) : NULL};
    log_info("event=initialised parameters=%zu buffers=%zu", manifest->parameter_floats, manifest->buffer_floats);
    int rc = apply_initial(t->core, manifest, &vectors);
    if (rc == 0)
        rc = core_adopt_weights(t->core, manifest, &vectors);
    else
        weight_vectors_fini(&vectors);
    core_note(t->core, rc);
    if (rc == 0) {
        core_acknowledge(t, ACK_APPLIED);
        core_publish_weights(t);
    }
    return 0;
}

static enum reason on_init(struct turn *t)
{
    enum reason why = 0;
    const struct msg_tensor *json = msg_tensor(t->m, "manifest", DTYPE_U8, &why);
    if (json == NULL)
        return why;
    struct manifest manifest;
    manifest_init(&manifest);
    if (manifest_from_json(json->data->data, json->data->size, &manifest, &t->detail) != 0) {
        why = REASON_BAD_VALUE;
    } else if (!t->core->ready) {
        why = first_weights(t, &manifest);
    } else if (manifest_equal(&manifest, &t->core->weights.manifest)) {
        core_acknowledge(t, ACK_DUPLICATE);
    } else {
        error_set(&t->detail, ERR_STATE, "another manifest than the run's");
        why = REASON_WRONG_CONFIG;
    }
    manifest_fini(&manifest);
    return why;
}

static void request_lease(struct turn *t, uint32_t want)
{
    int rc = leases_request(t->core->leases, t->worker->handle, want);
    ASSERT(rc == 0);
}

static enum reason on_lease_request(struct turn *t)
{
    request_lease(t, t->m->want);
    return 0;
}

_Static_assert((int)METRIC_END <= (int)GRADIENT_METRICS_MAX, "every figure has a place in the sum");

/* No loss, count or time of a slot comes near it, and sums of a step stay finite. */
static const double METRIC_ABS_MAX = 1e12;

/* Optional: a vector of up to METRIC_END numbers. */
static enum reason read_metrics(const struct msg *m, double out[GRADIENT_METRICS_MAX])
{
    enum reason why = 0;
    const struct msg_tensor *t = msg_tensor(m, "metrics", DTYPE_F64, &why);
    if (t == NULL)
        return why == REASON_BAD_FIELD ? 0 : why;
    if (t->rank != 1 || t->shape[0] > METRIC_END)
        return REASON_BAD_SHAPE;
    if (msg_tensor_checked(m, "metrics", DTYPE_F64, 1, t->shape, &why) == NULL)
        return why;
    memcpy(out, t->data->data, t->data->size);
    for (uint64_t i = 0; i < t->shape[0]; i++)
        if (fabs(out[i]) > METRIC_ABS_MAX)
            return REASON_BAD_VALUE;
    return 0;
}

static void note_pace(struct turn *t, struct worker *w)
{
    uint64_t since;
    if (!leases_holds(t->core->leases, w->handle, t->m->slot, &since))
        return; /* its lease ran out: since when it worked is not known */
    slot_time_note(&w->slot_time, (double)(t->now - since));
    slot_time_note(&t->core->slot_time, (double)(t->now - since));
}

/* Checks the tensors, then moves them into the tree. */
static enum reason accept_gradient(struct turn *t)
{
    struct parameter_core *c = t->core;
    struct gradient_sum contribution = {0};
    const struct msg_tensor *gradient, *buffers;
    enum reason why = check_vector(t->m, "grad", c->weights.manifest.parameter_floats, &gradient);
    if (why == 0)
        why = check_vector(t->m, "buffers", c->weights.manifest.buffer_floats, &buffers);
    if (why == 0)
        why = read_metrics(t->m, contribution.metrics);
    if (why != 0)
        return why;
    contribution.gradient = take_data(t->m, gradient);
    contribution.buffers = buffers ? take_data(t->m, buffers) : NULL;
    int rc = gradients_put(c->gradients, t->m->slot, t->m->slots, &contribution);
    core_note(c, rc);
    if (rc != 0)
        return 0;
    struct worker *w = t->worker;
    note_pace(t, w);
    leases_done(c->leases, t->m->slot, t->m->slots);
    w->slots_done += t->m->slots;
    c->counters.applied++;
    c->counters.applied_slots += t->m->slots;
    core_acknowledge(t, ACK_APPLIED);
    return 0;
}

/* A contribution to the current step. */
static enum reason place_gradient(struct turn *t)
{
    uint64_t lineage = core_lineage(t->m);
    if (lineage > t->core->lineage_max) {
        error_set(&t->detail, ERR_RANGE, "lineage %" PRIu64 " does not exist, the newest is %" PRIu64, lineage,
                  t->core->lineage_max);
        return REASON_BAD_VALUE;
    }
    on_lineage(t, lineage);
    if (lineage != 0 && lineage < t->core->lineage) {
        error_set(&t->detail, ERR_STATE, "lineage %" PRIu64 " is over, the newest is %" PRIu64, lineage,
                  t->core->lineage);
        return REASON_WRONG_GENERATION;
    }
    switch (gradients_place(t->core->gradients, t->m->slot, t->m->slots)) {
    case GRADIENTS_OUT_OF_RANGE:
        return REASON_OUT_OF_RANGE;
    case GRADIENTS_OVERLAP: /* its sender drops the sum, so the slots that are still missing go to somebody at once */
        for (uint32_t i = 0; i < t->m->slots; i++)
            leases_release(t->core->leases, t->worker->handle, t->m->slot + i);
        return REASON_OVERLAP;
    case GRADIENTS_HELD:
        t->core->counters.duplicates++;
        core_acknowledge(t, ACK_DUPLICATE);
        return 0;
    case GRADIENTS_WANTED:
        break;
    }
    return t->core->phase >= PHASE_COMPLETE ? REASON_STOPPING : accept_gradient(t);
}

static enum reason on_gradient(struct turn *t)
{
    struct parameter_core *c = t->core;
    if (!c->ready || c->schedule.steps == 0)
        return REASON_NOT_READY;
    if (t->m->step > c->step)
        return REASON_FUTURE_STEP;
    enum reason why = 0;
    if (t->m->step < c->step) {
        c->counters.stale++;
        core_acknowledge(t, ACK_STALE);
    } else {
        why = place_gradient(t);
    }
    if ((why != 0 && why != REASON_STOPPING) || c->failed != 0)
        return why;
    if (c->phase < PHASE_COMPLETE && gradients_missing(c->gradients) == 0)
        core_complete_step(t);
    if (t->m->want > 0)
        request_lease(t, t->m->want);
    return why;
}

static enum reason on_weights_get(struct turn *t)
{
    if (!t->core->ready)
        return REASON_NOT_READY;
    struct msg m = core_weights_message(t->core);
    core_reply(t, &m);
    return 0;
}

/* The generation was checked: it is about this incarnation and no other. */
static enum reason on_rewind(struct turn *t)
{
    struct parameter_core *c = t->core;
    if (t->m->generation == 0) {
        error_set(&t->detail, ERR_RANGE, "generation is 0");
        return REASON_BAD_FIELD;
    }
    if (c->phase == PHASE_STOPPED)
        return REASON_STOPPING;
    bool behind = t->m->step < c->step;
    core_acknowledge(t, behind ? ACK_APPLIED : ACK_STALE);
    if (!behind)
        return 0;
    log_warn("event=rewind_asked step=%" PRIu64 " prototype_step=%" PRIu64 " worker=%016" PRIx64
             " cause=\"the prototype server has lost statistics\"",
             c->step, t->m->step, t->m->worker);
    c->rewind_due = true;
    c->rewind_max = t->m->step;
    return 0;
}

/* ---- admission and dispatch ---- */

struct handler {
    enum reason (*handle)(struct turn *t);
    bool nameless; /* the run may be empty: the sender is about to learn it */
    bool worker;   /* only from a worker */
};

/* Whatever is not listed is refused as wrong_door. */
static const struct handler handlers[MSG_TYPE_END] = {
    [MSG_HELLO] = {on_hello, .nameless = true},
    [MSG_PING] = {on_ping, .nameless = true},
    [MSG_INIT] = {on_init},
    [MSG_LEASE_REQUEST] = {on_lease_request, .worker = true},
    [MSG_GRADIENT] = {on_gradient, .worker = true},
    [MSG_WEIGHTS_GET] = {on_weights_get},
    [MSG_REWIND] = {on_rewind, .worker = true},
};

/* HELLO tells T when run.steps does not; the first one to say so is believed. */
static enum reason agree_on_steps(struct turn *t)
{
    double total = msg_scalar(t->m, "total_steps", 0.0);
    if (t->m->type != MSG_HELLO || total == 0.0)
        return 0;
    if (!(total >= 1.0 && total <= PARAMETER_TOTAL_STEPS_MAX && total == floor(total))) {
        error_set(&t->detail, ERR_RANGE, "total_steps = %g", total);
        return REASON_BAD_VALUE;
    }
    struct schedule *s = &t->core->schedule;
    if (s->steps == 0)
        s->steps = (uint64_t)total;
    if (s->steps == (uint64_t)total)
        return 0;
    error_set(&t->detail, ERR_STATE, "total_steps = %.0f, but this run has %" PRIu64 "; is the data the same?", total,
              s->steps);
    return REASON_WRONG_CONFIG;
}

/* Likewise images and arithmetic: a worker with others would make the result depend on who computed what. */
static enum reason agree_on_provenance(struct turn *t)
{
    struct parameter_core *c = t->core;
    const char *text;
    if (t->m->type != MSG_HELLO)
        return 0;
    enum reason why = provenance_check(&c->provenance, &c->config, t->m, &text);
    if (why == 0)
        provenance_take(&c->provenance, t->m, c->step);
    else
        error_set(&t->detail, ERR_STATE, "%s", text);
    return why;
}

static enum reason admit(struct turn *t)
{
    const struct msg *m = t->m;
    const struct parameter_core *c = t->core;
    const struct handler *handler = (unsigned)m->type < MSG_TYPE_END ? &handlers[m->type] : NULL;
    if (handler == NULL || handler->handle == NULL)
        return REASON_WRONG_DOOR;
    if (strcmp(m->run, c->config.run.name) != 0 && !(handler->nameless && m->run[0] == '\0'))
        return REASON_WRONG_RUN;
    if (m->config != 0 && m->config != c->hash) {
        error_set(&t->detail, ERR_STATE,
                  "configurations differ in a key that shapes the result: start every process with the same file and "
                  "flags");
        return REASON_WRONG_CONFIG;
    }
    if (m->shard != 0)
        return REASON_WRONG_SHARD;
    if (m->generation != 0 && m->generation != c->generation && m->type != MSG_HELLO)
        return REASON_WRONG_GENERATION;
    if (handler->worker && m->worker == 0) {
        error_set(&t->detail, ERR_RANGE, "worker is 0");
        return REASON_BAD_FIELD;
    }
    enum reason why = agree_on_steps(t);
    return why == 0 ? agree_on_provenance(t) : why;
}

/* Every admitted message of a worker is a sign of life. */
static enum reason note_worker(struct turn *t)
{
    struct parameter_core *c = t->core;
    if (t->m->worker == 0)
        return 0;
    switch (worker_table_note(&c->workers, t->m, t->from, t->now, &t->worker)) {
    case WORKER_KNOWN:
        return 0;
    case WORKER_MOVED:
        c->counters.leases_expired += leases_revoke(c->leases, t->worker->handle);
        return 0;
    case WORKER_FULL:
        error_set(&t->detail, ERR_RANGE, "already %d workers", WORKERS_MAX);
        return REASON_NOT_READY;
    }
    return 0;
}

enum reason core_handle(struct turn *t)
{
    enum reason why = admit(t);
    if (why == 0)
        why = note_worker(t);
    return why == 0 ? handlers[t->m->type].handle(t) : why;
}
