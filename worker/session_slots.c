/* Slots in hand. An entry lives from its lease until its last contribution is acknowledged, refused or superfluous:
 *
 *   FREE ─lease─▶ QUEUED ─inputs held─▶ RUNNING(A+B) ───────────────────────────────▶ DONE ─acknowledged─▶ FREE
 *                               lag 0 ▶ RUNNING(A) ─▶ WAITING ─mixture t+1─▶ RUNNING(B) ┘
 *
 * Two steps can overlap here: contributions of a step that is over on one server, and leases of the next one. */
#include "worker/session_internal.h"

#include <string.h>

uint32_t session_jobs_max(const struct session *s)
{
    return s->slots_max;
}

struct slot_in_hand *slots_find(struct session *s, uint64_t step, uint32_t slot)
{
    for (uint32_t i = 0; i < s->slots_max; i++) {
        struct slot_in_hand *e = &s->slots[i];
        if (e->phase != SLOT_FREE && e->job.step == step && e->job.slot == slot)
            return e;
    }
    return NULL;
}

static void release_inputs(struct session *s, struct slot_in_hand *e)
{
    buf_unref(&e->job.student);
    buf_unref(&e->job.teacher);
    buf_unref(&e->job.buffers);
    mixture_cache_unref(&s->mixtures, &e->held_a);
    mixture_cache_unref(&s->mixtures, &e->held_b);
}

static void free_entry(struct session *s, struct slot_in_hand *e)
{
    release_inputs(s, e);
    contribution_drop(&e->stats);
    contribution_drop(&e->gradient);
    msg_fini(&e->stats_draft);
    buf_unref(&e->job.gradient);
    buf_unref(&e->job.new_buffers);
    buf_unref(&e->job.metrics);
    uint32_t index = e->job.index;
    memset(e, 0, sizeof *e);
    e->job.index = index;
}

void slots_free(struct session *s)
{
    for (uint32_t i = 0; i < s->slots_max; i++)
        free_entry(s, &s->slots[i]);
}

/* ---- leases ---- */

struct lease {
    uint64_t step;
    uint32_t slot, slots;
};

static void hurry(struct slot_in_hand *e)
{
    contribution_hurry(&e->stats);
    contribution_hurry(&e->gradient);
}

static void queue_slot(struct session *s, const struct lease *lease, uint32_t slot)
{
    uint64_t step = lease->step;
    struct slot_in_hand *e = slots_find(s, step, slot);
    if (e && e->phase == SLOT_DONE) /* leased again, so the server does not have our contribution */
        hurry(e);
    if (e)
        return;
    for (uint32_t i = 0; i < s->slots_max; i++)
        if (s->slots[i].phase == SLOT_FREE) {
            s->slots[i].phase = SLOT_QUEUED;
            s->slots[i].job.step = step;
            s->slots[i].job.slot = slot;
            s->slots[i].lease_slot = lease->slot;
            s->slots[i].lease_slots = lease->slots;
            return;
        }
    session_event(s, LOG_WARN, "event=lease_ignored reason=full");
}

/* Queues the slot again, and with it those whose gradients were already added to its own: all of them are to be
 * computed once more under the lease that they came with. */
static void requeue(struct session *s, struct slot_in_hand *e)
{
    struct lease lease = {e->job.step, e->lease_slot, e->lease_slots};
    uint32_t slot = e->job.slot, slots = e->gradient.held ? e->gradient.msg.slots : 1;
    free_entry(s, e);
    for (uint32_t i = 0; i < slots; i++)
        queue_slot(s, &lease, slot + i);
}

void slots_on_lease(struct session *s, const struct msg *m)
{
    uint32_t M = s->options.slots;
    if (m->slots == 0 || m->slots > M || m->slot > M - m->slots) {
        session_event(s, LOG_WARN, "event=lease_ignored reason=out_of_range slot=%u slots=%u", m->slot, m->slots);
        return;
    }
    s->requested -= s->requested < m->slots ? s->requested : m->slots;
    if (s->stopping || (s->weights_held && m->step < s->weights_step))
        return;
    struct lease lease = {m->step, m->slot, m->slots};
    for (uint32_t i = 0; i < m->slots; i++)
        queue_slot(s, &lease, m->slot + i);
}

/* ---- inputs ---- */

/* The mixture version that a slot of step t waits for, given what is held. With lag 1 it is t. With lag 0 it is t for
 * part A and t + 1 for part B; but if t + 1 already exists, all statistics of t are applied, so that part A computes
 * none and both parts take t + 1. */
static uint64_t mixture_needed(const struct session *s, const struct slot_in_hand *e)
{
    uint64_t newest, t = e->job.step;
    if (s->options.prototype_lag == 1)
        return t;
    bool applied = mixture_cache_newest(&s->mixtures, &newest) && newest > t;
    return e->phase == SLOT_WAITING || applied ? t + 1 : t;
}

static bool needs_inputs(const struct slot_in_hand *e)
{
    return e->phase == SLOT_QUEUED || e->phase == SLOT_WAITING;
}

bool slots_missing_mixture(const struct session *s, uint64_t *version)
{
    bool missing = false;
    for (uint32_t i = 0; !s->options.joint && i < s->slots_max; i++) {
        const struct slot_in_hand *e = &s->slots[i];
        if (!needs_inputs(e))
            continue;
        uint64_t needed = mixture_needed(s, e);
        if (mixture_cache_has(&s->mixtures, needed) || (missing && needed >= *version))
            continue;
        *version = needed;
        missing = true;
    }
    return missing;
}

bool slots_missing_weights(const struct session *s)
{
    for (uint32_t i = 0; i < s->slots_max; i++) {
        const struct slot_in_hand *e = &s->slots[i];
        bool unusable = e->phase == SLOT_QUEUED && !(s->weights_held && s->weights_step == e->job.step);
        if (unusable ||
            (needs_inputs(e) && e->job.step < s->parameter.step)) /* its step is over: newer weights end it */
            return true;
    }
    return false;
}

/* ---- jobs ---- */

static bool ready(const struct session *s, const struct slot_in_hand *e)
{
    if (!needs_inputs(e))
        return false;
    if (e->phase == SLOT_QUEUED && !(s->weights_held && s->weights_step == e->job.step))
        return false;
    return s->options.joint || mixture_cache_has(&s->mixtures, mixture_needed(s, e));
}

/* Part B before part A, so that slots are finished before more are begun; then in the order of slots, which is that
 * of the leases. */
static bool before(const struct slot_in_hand *a, const struct slot_in_hand *b)
{
    if (a->phase != b->phase)
        return a->phase == SLOT_WAITING;
    return a->job.step != b->job.step ? a->job.step < b->job.step : a->job.slot < b->job.slot;
}

/* Decides which parts this job computes and with which mixtures. ready() has made sure that mixture_needed is held. */
static void take_mixtures(struct session *s, struct slot_in_hand *e)
{
    uint64_t newest, t = e->job.step, needed = mixture_needed(s, e);
    bool applied = mixture_cache_newest(&s->mixtures, &newest) && newest > t;
    bool first = e->phase == SLOT_QUEUED, whole = s->options.prototype_lag == 1 || applied;
    if (first && !applied)
        e->held_a = mixture_cache_ref(&s->mixtures, needed);
    if (!first || whole)
        e->held_b = mixture_cache_ref(&s->mixtures, needed);
    e->job.mixture_a = e->held_a ? e->held_a->view : NULL;
    e->job.mixture_b = e->held_b ? e->held_b->view : NULL;
    e->job.parts = (first ? SLOT_PART_A : 0) | (e->held_b ? SLOT_PART_B : 0);
}

static void start(struct session *s, struct slot_in_hand *e)
{
    if (s->options.joint)
        e->job.parts = SLOT_PART_A | SLOT_PART_B;
    else
        take_mixtures(s, e);
    if (e->phase == SLOT_QUEUED) {
        e->job.student = buf_ref(s->student);
        e->job.teacher = buf_ref(s->teacher);
        e->job.buffers = buf_ref(s->buffers);
    }
    e->job.stats = e->job.mixture_a ? &e->stats_draft : NULL;
    if (e->job.stats) {
        session_msg(s, &e->stats_draft, MSG_STATS, &s->prototype);
        e->stats_draft.step = e->job.step;
        e->stats_draft.slot = e->job.slot;
        e->stats_draft.slots = 1;
    }
    e->phase = SLOT_RUNNING;
}

struct slot_job *session_next_job(struct session *s)
{
    struct slot_in_hand *best = NULL;
    uint32_t running = 0;
    if (s->status != SESSION_RUNNING)
        return NULL;
    for (uint32_t i = 0; i < s->slots_max; i++) {
        struct slot_in_hand *e = &s->slots[i];
        running += e->phase == SLOT_RUNNING;
        if (ready(s, e) && (best == NULL || before(e, best)))
            best = e;
    }
    if (best == NULL || running >= s->options.threads)
        return NULL;
    start(s, best);
    return &best->job;
}

bool session_queued(const struct session *s, uint32_t i, uint64_t *step, uint32_t *slot)
{
    const struct slot_in_hand *e = &s->slots[i];
    *step = e->job.step;
    *slot = e->job.slot;
    return e->phase == SLOT_QUEUED;
}

bool session_awaiting(const struct session *s, uint32_t from, uint64_t *step, uint32_t *slot)
{
    bool found = false;
    for (uint32_t i = 0; s->status == SESSION_RUNNING && i < s->slots_max; i++) {
        const struct slot_in_hand *e = &s->slots[i];
        bool waits = e->phase == SLOT_QUEUED && !(s->weights_held && s->weights_step == e->job.step);
        if (!waits || e->job.slot < from || (found && e->job.slot >= *slot))
            continue;
        *step = e->job.step;
        *slot = e->job.slot;
        found = true;
    }
    return found;
}

static bool mixture_beyond(const struct session *s, uint64_t step)
{
    uint64_t newest;
    return mixture_cache_newest(&s->mixtures, &newest) && newest > step;
}

static bool failed(struct session *s, const struct slot_job *job, int rc)
{
    if (rc != 0)
        session_fail(s, "event=slot_failed step=%llu slot=%u error=%s", (unsigned long long)job->step, job->slot,
                     error_name(rc));
    return rc != 0;
}

/* After a part whose result is not wanted any more: start over, or give the entry back. */
static void end_detour(struct session *s, struct slot_in_hand *e)
{
    if (e->again && !e->abandoned)
        requeue(s, e);
    else if (e->abandoned && e->phase == SLOT_WAITING)
        free_entry(s, e);
}

int session_on_part_a(struct session *s, struct slot_job *job, uint64_t now)
{
    struct slot_in_hand *e = (struct slot_in_hand *)job;
    ASSERT(e->phase == SLOT_RUNNING && (job->parts & SLOT_PART_A) != 0);
    if (job->stats) {
        e->stats.msg = e->stats_draft;
        contribution_hold(&e->stats);
        memset(&e->stats_draft, 0, sizeof e->stats_draft);
        job->stats = NULL;
    }
    if (failed(s, job, job->rc_a) || e->abandoned || e->again)
        contribution_drop(&e->stats);
    if ((job->parts & SLOT_PART_B) == 0) {
        e->phase = SLOT_WAITING;
        mixture_cache_unref(&s->mixtures, &e->held_a);
        end_detour(s, e);
    }
    slots_purge(s);
    return slots_send(s, now);
}

/* The job's results become the GRADIENT message. */
static int prepare_gradient(struct session *s, struct slot_in_hand *e)
{
    struct msg *m = &e->gradient.msg;
    struct slot_job *job = &e->job;
    uint64_t P = s->options.manifest->parameter_floats, Q = s->options.manifest->buffer_floats, n = job->metric_count;
    session_msg(s, m, MSG_GRADIENT, &s->parameter);
    m->step = job->step;
    m->slot = job->slot;
    m->slots = 1;
    contribution_hold(&e->gradient);
    int rc = session_add_lineage(s, m);
    if (rc == 0) {
        rc = msg_add_tensor(m, "grad", DTYPE_F32, 1, &P, job->gradient);
        job->gradient = NULL;
    }
    if (rc == 0 && Q > 0) {
        rc = msg_add_tensor(m, "buffers", DTYPE_F32, 1, &Q, job->new_buffers);
        job->new_buffers = NULL;
    }
    if (rc == 0) {
        rc = msg_add_tensor(m, "metrics", DTYPE_F64, 1, &n, job->metrics);
        job->metrics = NULL;
    }
    return rc;
}

int session_on_part_b(struct session *s, struct slot_job *job, uint64_t now)
{
    struct slot_in_hand *e = (struct slot_in_hand *)job;
    ASSERT(e->phase == SLOT_RUNNING && (job->parts & SLOT_PART_B) != 0);
    int rc = 0;
    e->phase = SLOT_DONE;
    release_inputs(s, e);
    if (!failed(s, job, job->rc_b) && !e->abandoned && !e->again)
        rc = prepare_gradient(s, e);
    end_detour(s, e);
    slots_purge(s);
    return rc == 0 ? slots_send(s, now) : rc;
}

/* ---- the end of an entry ---- */

static void end_of_step(struct session *s, struct slot_in_hand *e)
{
    if (needs_inputs(e) && !e->stats.held)
        free_entry(s, e);
    else if (e->phase == SLOT_WAITING || e->phase == SLOT_QUEUED) {
        e->phase = SLOT_DONE; /* its statistics are still to be acknowledged */
        release_inputs(s, e);
    }
    e->abandoned = e->phase == SLOT_RUNNING;
    contribution_drop(&e->gradient);
}

void slots_settle(struct session *s, struct slot_in_hand *e)
{
    if (e->phase == SLOT_DONE && !e->stats.held && !e->gradient.held)
        free_entry(s, e);
}

void slots_purge(struct session *s)
{
    for (uint32_t i = 0; i < s->slots_max; i++) {
        struct slot_in_hand *e = &s->slots[i];
        if (e->phase == SLOT_FREE)
            continue;
        if (e->stats.held && mixture_beyond(s, e->job.step))
            contribution_drop(&e->stats);
        if (s->weights_held && e->job.step < s->weights_step)
            end_of_step(s, e);
        slots_settle(s, e);
    }
}

void slots_end(struct session *s)
{
    for (uint32_t i = 0; i < s->slots_max; i++) {
        if (s->slots[i].phase != SLOT_FREE)
            end_of_step(s, &s->slots[i]);
        slots_settle(s, &s->slots[i]);
    }
}

void slots_forget_leases(struct session *s)
{
    for (uint32_t i = 0; i < s->slots_max; i++) {
        struct slot_in_hand *e = &s->slots[i];
        if (e->phase == SLOT_FREE)
            continue;
        e->abandoned = e->phase == SLOT_RUNNING;
        e->again = false;
        if (e->abandoned)
            contribution_drop(&e->stats);
        else
            free_entry(s, e);
    }
}

void slots_redo(struct session *s)
{
    for (uint32_t i = 0; i < s->slots_max; i++) {
        struct slot_in_hand *e = &s->slots[i];
        contribution_drop(&e->stats);
        if (e->phase == SLOT_RUNNING)
            e->again = !e->abandoned;
        else if (e->phase == SLOT_WAITING || (e->phase == SLOT_DONE && e->gradient.held))
            requeue(s, e);
        else
            slots_settle(s, e);
    }
}

void slots_resend(struct session *s, enum server to)
{
    for (uint32_t i = 0; i < s->slots_max; i++)
        contribution_hurry(to == SERVER_PROTOTYPE ? &s->slots[i].stats : &s->slots[i].gradient);
}

void slots_on_ack(struct session *s, enum server from, const struct msg *m)
{
    struct slot_in_hand *e = slots_find(s, m->step, m->slot);
    if (e == NULL)
        return;
    if (from == SERVER_PROTOTYPE && m->slots == 1) {
        contribution_drop(&e->stats);
    } else if (from == SERVER_PARAMETER && e->gradient.held && e->gradient.msg.slots == m->slots) {
        s->slots_done += m->code == ACK_APPLIED ? m->slots : 0;
        contribution_drop(&e->gradient);
    }
    slots_settle(s, e);
}

void slots_on_refusal(struct session *s, enum server from, const struct msg *m)
{
    struct slot_in_hand *e = slots_find(s, m->step, m->slot);
    if (e == NULL || !(from == SERVER_PROTOTYPE ? e->stats.held : e->gradient.held))
        return;
    session_event(s, LOG_WARN, "event=refused server=%s reason=%s step=%llu slot=%u text=\"%s\"",
                  session_link(s, from)->name, reason_name(m->code), (unsigned long long)m->step, m->slot, m->text);
    if (from == SERVER_PROTOTYPE)
        contribution_drop(&e->stats); /* and its gradient must not count either */
    end_of_step(s, e);
    slots_settle(s, e);
}

bool slots_idle(const struct session *s)
{
    for (uint32_t i = 0; i < s->slots_max; i++)
        if (s->slots[i].phase != SLOT_FREE)
            return false;
    return true;
}

/* ---- sending ---- */

/* How many slots to ask for beside those in hand: one for each thread and some ahead. With prototype_lag = 0 it is
 * the whole step: part B of one slot waits for part A of all, and this worker may be the only one. */
static uint32_t wanted(const struct session *s)
{
    uint32_t capacity = s->options.threads + s->options.ahead, in_hand = 0;
    if (s->options.prototype_lag == 0 && !s->options.joint && s->options.slots > capacity)
        capacity = s->options.slots;
    for (uint32_t i = 0; i < s->slots_max; i++)
        in_hand += needs_inputs(&s->slots[i]) || s->slots[i].phase == SLOT_RUNNING;
    return s->stopping || in_hand >= capacity ? 0 : capacity - in_hand;
}

static int send_request(struct session *s, uint32_t want, uint64_t now)
{
    struct msg m;
    bool due = want > s->requested || (want == 0 && s->requested > 0 && s->stopping) ||
               (want > 0 && now - s->requested_at >= RESEND_US);
    if (!due || !s->parameter.up || s->init.held)
        return 0;
    session_msg(s, &m, MSG_LEASE_REQUEST, &s->parameter);
    m.want = want;
    s->requested = want;
    s->requested_at = now;
    return session_send(s, SERVER_PARAMETER, &m);
}

/* A gradient carries the next lease request, which saves a round trip per slot. */
static int send_gradient(struct session *s, struct slot_in_hand *e, uint32_t want, uint64_t now)
{
    uint64_t before_at = e->gradient.sent_at;
    e->gradient.msg.want = want;
    int rc = session_contribute(s, &s->parameter, &e->gradient, now);
    if (e->gradient.sent_at != before_at) {
        s->requested = want;
        s->requested_at = now;
    }
    return rc;
}

int slots_send(struct session *s, uint64_t now)
{
    uint32_t want = wanted(s);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < s->slots_max; i++) {
        struct slot_in_hand *e = &s->slots[i];
        rc = session_contribute(s, &s->prototype, &e->stats, now);
        if (rc == 0 && e->gradient.held && !e->stats.held && (e = sums_take(s, e)) != NULL)
            rc = send_gradient(s, e, want, now);
    }
    return rc == 0 ? send_request(s, want, now) : rc;
}
