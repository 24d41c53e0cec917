/* What a turn leads to: answers, publications, leases, and the step itself. */
#include "server/parameter/core_state.h"

#include <inttypes.h>
#include <stdio.h>
#include "common/log.h"
#include "proto/config_wire.h"
#include "proto/teacher.h"

/* ---- sending ---- */

struct msg core_begin(const struct parameter_core *c, enum msg_type type)
{
    struct msg m;
    msg_init(&m, type, c->config.run.name);
    m.generation = c->generation;
    m.config = c->hash;
    m.step = c->step;
    return m;
}

void core_note(struct parameter_core *c, int rc)
{
    if (rc != 0)
        c->failed = rc;
}

void core_reply(struct turn *t, struct msg *m)
{
    m->worker = t->m->worker;
    core_note(t->core, outbox_to_peer(t->out, t->from, m));
}

static void publish(struct turn *t, const char *topic, struct msg *m)
{
    core_note(t->core, outbox_publish(t->out, topic, m));
}

void core_acknowledge(struct turn *t, enum ack_code code)
{
    struct msg ack = core_begin(t->core, MSG_ACK);
    ack.step = t->m->step;
    ack.slot = t->m->slot;
    ack.slots = t->m->slots;
    ack.seq = t->m->seq;
    ack.code = code;
    core_reply(t, &ack);
}

void core_refuse(struct parameter_core *c, const struct peer *from, const struct msg *m, enum reason why,
                 const char *detail, struct outbox *out)
{
    uint64_t count = ++c->counters.refused[why];
    if ((count & (count - 1)) == 0)
        log_warn("event=refused type=%s reason=%s count=%" PRIu64 " worker=%016" PRIx64 " step=%" PRIu64 " slot=%u",
                 msg_type_name(m->type), reason_name(why), count, m->worker, m->step, m->slot);
    if (m->type == MSG_ERROR)
        return;
    struct msg error = core_begin(c, MSG_ERROR);
    error.worker = m->worker;
    error.step = m->step;
    error.slot = m->slot;
    error.slots = m->slots;
    error.seq = m->seq;
    error.code = why;
    snprintf(error.text, sizeof error.text, "%s: %.200s", msg_type_name(m->type),
             detail[0] != '\0' ? detail : reason_name(why));
    if (why == REASON_WRONG_CONFIG && m->type == MSG_HELLO && m->config != c->hash)
        core_note(c, config_wire_add(&c->config, &error));
    core_note(c, outbox_to_peer(out, from, &error));
}

/* Without its teacher: student and buffers. */
static struct msg student_message(struct parameter_core *c)
{
    struct msg m = core_begin(c, MSG_WEIGHTS);
    const struct weight_vectors *v = &c->weights.vectors;
    const uint64_t P = c->weights.manifest.parameter_floats, Q = c->weights.manifest.buffer_floats;
    core_note(c, msg_add_tensor(&m, "student", DTYPE_F32, 1, &P, buf_ref(v->student)));
    if (Q > 0)
        core_note(c, msg_add_tensor(&m, "buffers", DTYPE_F32, 1, &Q, buf_ref(v->buffers)));
    return m;
}

struct msg core_weights_message(struct parameter_core *c)
{
    struct msg m = student_message(c);
    const uint64_t P = c->weights.manifest.parameter_floats;
    core_note(c, msg_add_tensor(&m, "teacher", DTYPE_F32, 1, &P, buf_ref(c->weights.vectors.teacher)));
    return m;
}

void core_publish_weights(struct turn *t)
{
    struct msg m = core_weights_message(t->core);
    publish(t, "weights", &m);
}

/* After an update with this m: whoever holds the version before has what the teacher follows from, so that half the
 * bytes stay at home. */
static void publish_update(struct turn *t, double ema)
{
    struct msg m = student_message(t->core);
    const struct weights *w = &t->core->weights;
    const float *teacher = (const float *)(const void *)w->vectors.teacher->data;
    core_note(t->core, msg_add_scalar(&m, "ema", ema));
    core_note(t->core, msg_add_scalar(&m, "check", teacher_check(teacher, w->manifest.parameter_floats)));
    publish(t, "weights", &m);
}

/* ---- stopping ---- */

void core_stop(struct turn *t, enum stop_code code)
{
    struct parameter_core *c = t->core;
    c->phase = PHASE_STOPPED;
    c->stop_code = code;
    if (code == STOP_DRAINED)                        /* else the checkpoint of step T is on disk */
        c->checkpoint_due = c->ready && c->step > 0; /* step 0 follows from the seed */
    if (c->ready)
        gradients_reset(c->gradients);
    struct msg m = core_begin(c, MSG_STOP);
    m.code = code;
    publish(t, "stop", &m);
    log_info("event=%s step=%" PRIu64, code == STOP_FINISHED ? "finished" : "drained", c->step);
}

/* ---- leases ---- */

static void send_lease(struct turn *t, const struct worker *w, uint32_t slot, uint32_t slots, uint64_t lease_ms)
{
    struct msg lease = core_begin(t->core, MSG_LEASE);
    lease.worker = w->id;
    lease.slot = slot;
    lease.slots = slots;
    core_note(t->core, msg_add_scalar(&lease, "timeout_ms", (double)lease_ms));
    core_note(t->core, outbox_to_peer(t->out, &w->peer, &lease));
}

/* Soon after the worker should be done: its own pace, or that of all when it is new. */
static void grant(struct turn *t, const struct worker *w, uint32_t slot, uint32_t slots)
{
    struct parameter_core *c = t->core;
    const struct slot_time *pace = w->slot_time.known ? &w->slot_time : &c->slot_time;
    uint64_t lease_ms = slot_time_lease_ms(pace, (uint64_t)c->config.net.lease_ms);
    leases_limit(c->leases, slot, slots, t->now + lease_ms);
    send_lease(t, w, slot, slots, lease_ms);
}

static void send_stop(struct turn *t, const struct worker *w)
{
    struct msg m = core_begin(t->core, MSG_STOP);
    m.worker = w->id;
    m.code = t->core->stop_code;
    core_note(t->core, outbox_to_peer(t->out, &w->peer, &m));
}

/* Whoever holds a request is in the table: requests are dropped with their worker. */
static const struct worker *requester(struct parameter_core *c, uint64_t handle)
{
    const struct worker *w = worker_table_find(&c->workers, handle);
    ASSERT(w != NULL);
    return w;
}

static void expire_leases(struct parameter_core *c, uint64_t now)
{
    uint64_t id;
    while (leases_take_expired(c->leases, now, &id)) {
        struct worker *w = worker_table_find(&c->workers, id);
        if (w != NULL)
            slot_time_missed(&w->slot_time);
        c->counters.leases_expired++;
    }
}

/* An idle worker also gets what another one takes much longer for than it would itself: a straggler that is neither
 * dead nor done holds up the whole step. */
static void share_late_slots(struct turn *t)
{
    struct parameter_core *c = t->core;
    for (size_t i = 0; i < leases_requests(c->leases);) {
        const struct worker *w = requester(c, leases_requester(c->leases, i));
        uint64_t late = slot_time_late_ms(&w->slot_time);
        uint32_t slot;
        if (late < t->now && leases_grant_backup(c->leases, w->handle, t->now - late, &slot))
            send_lease(t, w, slot, 1, (uint64_t)c->config.net.lease_ms);
        else
            i++;
    }
}

void core_answer_requests(struct turn *t)
{
    struct parameter_core *c = t->core;
    uint64_t id;
    uint32_t slot, slots;
    expire_leases(c, t->now);
    if (c->phase == PHASE_STOPPED) {
        while (leases_withdraw_any(c->leases, &id))
            send_stop(t, requester(c, id));
        return;
    }
    if (!c->ready || c->schedule.steps == 0 || c->phase == PHASE_COMPLETE)
        return;
    while (leases_grant(c->leases, t->now, &id, &slot, &slots)) {
        if (c->window_ms == 0)
            c->window_ms = t->now;
        grant(t, requester(c, id), slot, slots);
    }
    share_late_slots(t);
}

void core_drop_worker(struct parameter_core *c, const struct worker *w, const char *event)
{
    log_info("event=%s worker=%016" PRIx64 " host=%s slots_done=%" PRIu64, event, w->id, w->host, w->slots_done);
    c->counters.leases_expired += leases_drop_worker(c->leases, w->handle);
}

/* ---- the step ---- */

void core_redo_step(struct parameter_core *c)
{
    gradients_reset(c->gradients);
    leases_restart(c->leases);
}

static void make_report(struct turn *t, const struct gradient_sum *sum, double norm)
{
    struct parameter_core *c = t->core;
    double seconds = (double)(t->now - c->window_ms) * 1e-3, steps = (double)(c->step - c->window_step);
    double step_images = (double)(c->config.run.slots * c->config.run.slot_size);
    c->report = (struct step_report){
        .step = c->step,
        .epoch =
            c->config.run.steps > 0 ? -1.0 : (double)c->step * (double)c->config.run.epochs / (double)c->schedule.steps,
        .lr = schedule_lr(&c->schedule, c->step - 1),
        .ema = schedule_ema(&c->schedule, c->step - 1),
        .grad_norm = norm,
        .images_per_s = seconds > 0.0 ? steps * step_images / seconds : 0.0,
        .step_ms = steps > 0.0 ? seconds * 1e3 / steps : 0.0,
        .workers = (double)c->workers.count,
        .counters = c->counters,
    };
    step_report_set_metrics(&c->report, sum->metrics, (double)c->config.run.slots);
    c->report_due = true;
    c->window_ms = t->now;
    c->window_step = c->step;
    struct msg m = core_begin(c, MSG_METRICS);
    step_report_to_msg(&c->report, &m);
    publish(t, "metrics", &m);
}

/* Weights t -> t+1, and their publication. An overflowed sum is skipped rather than let into the weights; the step
 * counts all the same, for the rest of the cluster has gone on. */
static void update(struct turn *t, const struct gradient_sum *sum, double *norm)
{
    struct parameter_core *c = t->core;
    struct weights_step s = {
        .gradient = (const float *)(const void *)sum->gradient->data,
        .buffers = sum->buffers ? (const float *)(const void *)sum->buffers->data : NULL,
        .slots = (double)c->config.run.slots,
        .step = c->step,
        .lr = schedule_lr(&c->schedule, c->step),
        .ema = schedule_ema(&c->schedule, c->step),
    };
    int rc = weights_update(&c->weights, &s, norm);
    c->step++;
    if (rc == 0) {
        publish_update(t, s.ema);
        return;
    }
    if (rc == ERR_RANGE) {
        c->counters.steps_skipped++;
        log_error("event=step_skipped step=%" PRIu64 " cause=overflow hint=\"lower optimiser.lr\"", s.step);
    } else {
        core_note(c, rc);
    }
    core_publish_weights(t);
}

static bool is_multiple(uint64_t step, int64_t every)
{
    return every > 0 && step % (uint64_t)every == 0;
}

void core_complete_step(struct turn *t)
{
    struct parameter_core *c = t->core;
    struct gradient_sum sum;
    double norm = 0.0;
    gradients_take(c->gradients, &sum);
    update(t, &sum, &norm);
    leases_restart(c->leases);
    bool last = c->step >= c->schedule.steps;
    if (last || is_multiple(c->step, c->config.run.log_every))
        make_report(t, &sum, norm);
    gradient_sum_fini(&sum);
    c->checkpoint_due = c->checkpoint_due || is_multiple(c->step, c->config.run.checkpoint_every);
    if (last) {
        c->phase = PHASE_COMPLETE;
        c->checkpoint_due = true;
    } else if (c->phase == PHASE_DRAINING)
        core_stop(t, STOP_DRAINED);
}
