/* What the tests of the session share: a session, both its servers as scripts, and what it says to them. */
#ifndef DECANT_TESTS_UNIT_WORKER_SESSION_RIG_H
#define DECANT_TESTS_UNIT_WORKER_SESSION_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "proto/provenance.h"
#include "proto/teacher.h"
#include "worker/session.h"

enum { M = 4, K = 4, D = 2, P = 3, Q = 2 };
#define MS UINT64_C(1000)
#define S UINT64_C(1000000)

struct world {
    struct session *session;
    struct manifest manifest;
    struct mixture_view *mixture; /* what the prototype server holds */
    struct msg said;              /* the last message that `expect` found */
    uint64_t now;
};

static inline void initial(void *context, float *params, float *buffers)
{
    (void)context;
    for (int i = 0; i < P; i++)
        params[i] = (float)i;
    buffers[0] = buffers[1] = 7;
}

static inline void open_world(struct world *w, uint32_t threads, uint32_t lag, bool joint)
{
    memset(w, 0, sizeof *w);
    w->now = 5 * S;
    manifest_init(&w->manifest);
    manifest_add_parameter(&w->manifest, &(struct manifest_entry){.name = "p", .rank = 1, .shape = {P}, .lr_scale = 1});
    manifest_add_buffer(&w->manifest, &(struct manifest_entry){.name = "q", .rank = 1, .shape = {Q}, .momentum = 0.1});
    assert_int_equal(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &w->mixture), 0);
    for (int i = 0; i < K * D; i++)
        w->mixture->mean[i] = w->mixture->variance[i] = 1;
    for (int i = 0; i < K; i++)
        w->mixture->weight[i] = 0.25f;
    w->mixture->beta = 1;
    struct session_options o = {.run = "r",
                                .host = "h:1",
                                .worker = 99,
                                .config = 1234,
                                .total_steps = 10,
                                .data = FINGERPRINT_MASK,
                                .numerics = 5,
                                .slots = M,
                                .slot_size = 2,
                                .threads = threads,
                                .ahead = 1,
                                .joint = joint,
                                .prototype_lag = lag,
                                .K = K,
                                .D = D,
                                .covariance = COVARIANCE_DIAGONAL,
                                .manifest = &w->manifest,
                                .initial = initial};
    assert_int_equal(session_new(&o, &w->session), 0);
}

static inline void close_world(struct world *w)
{
    msg_fini(&w->said);
    session_free(&w->session);
    assert_null(w->session);
    mixture_view_free(&w->mixture);
    manifest_fini(&w->manifest);
}

/* Whether the outbox holds such a message; it is moved to w->said. Others stay. */
static inline bool says(struct world *w, enum server to, enum msg_type type)
{
    struct outbox *o = session_outbox(w->session);
    for (size_t i = 0; i < o->count; i++) {
        if (o->items[i].kind != OUT_SERVER || o->items[i].server != to || o->items[i].msg.type != type)
            continue;
        msg_fini(&w->said);
        w->said = o->items[i].msg;
        memmove(&o->items[i], &o->items[i + 1], (o->count - i - 1) * sizeof o->items[0]);
        o->count--;
        return true;
    }
    return false;
}

static inline void expect(struct world *w, enum server to, enum msg_type type)
{
    if (!says(w, to, type))
        fail_msg("no %s at %llu us", msg_type_name(type), (unsigned long long)w->now);
}

static inline void hush(struct world *w)
{
    outbox_clear(session_outbox(w->session));
}

static inline void tick(struct world *w, uint64_t later)
{
    w->now += later;
    assert_int_equal(session_on_timer(w->session, w->now), 0);
}

static inline void tell(struct world *w, enum server from, struct msg *m)
{
    assert_int_equal(session_on_message(w->session, from, m, w->now), 0);
    msg_fini(m);
}

static inline struct msg message(enum msg_type type, uint64_t generation, uint64_t step, uint32_t slot)
{
    struct msg m;
    msg_init(&m, type, "r");
    m.generation = generation;
    m.step = step;
    m.slot = slot;
    m.slots = 1;
    return m;
}

static inline void tell_simple(struct world *w, enum server from, enum msg_type type, uint64_t step, uint32_t slot,
                               uint32_t code)
{
    struct msg m = message(type, 1, step, slot);
    m.code = code;
    tell(w, from, &m);
}

static inline void welcome(struct world *w, enum server from, uint64_t generation, uint32_t code)
{
    struct msg m = message(MSG_WELCOME, generation, 0, 0);
    m.code = code;
    tell(w, from, &m);
}

static inline void add_vector(struct msg *m, const char *name, uint64_t n, float value)
{
    struct buf *b = buf_new(n * sizeof(float));
    for (uint64_t i = 0; i < n; i++)
        ((float *)b->data)[i] = value;
    assert_int_equal(msg_add_tensor(m, name, DTYPE_F32, 1, &n, b), 0);
}

static inline void tell_weights(struct world *w, uint64_t generation, uint64_t step)
{
    struct msg m = message(MSG_WEIGHTS, generation, step, 0);
    add_vector(&m, "student", P, (float)step);
    add_vector(&m, "teacher", P, (float)step);
    add_vector(&m, "buffers", Q, (float)step);
    tell(w, SERVER_PARAMETER, &m);
}

/* As after an update: without the teacher, all of which is `teacher` now. */
static inline void tell_update(struct world *w, uint64_t generation, uint64_t step, double ema, float teacher)
{
    struct msg m = message(MSG_WEIGHTS, generation, step, 0);
    const float all[P] = {teacher, teacher, teacher};
    add_vector(&m, "student", P, (float)step);
    add_vector(&m, "buffers", Q, (float)step);
    assert_int_equal(msg_add_scalar(&m, "ema", ema), 0);
    assert_int_equal(msg_add_scalar(&m, "check", teacher_check(all, P)), 0);
    tell(w, SERVER_PARAMETER, &m);
}

/* Full, or a delta of one row. */
static inline void tell_mixture(struct world *w, uint64_t version, bool delta)
{
    const uint32_t row = 1;
    struct msg m = message(MSG_MIXTURE, 1, 0, 0);
    w->mixture->version = version;
    assert_int_equal(mixture_encode(w->mixture, delta ? &row : NULL, 1, &m), 0);
    tell(w, SERVER_PROTOTYPE, &m);
}

static inline void lease(struct world *w, uint64_t step, uint32_t slot)
{
    tell_simple(w, SERVER_PARAMETER, MSG_LEASE, step, slot, 0);
}

/* Both servers up; weights and mixture of step 0 held; what was said is forgotten. */
static inline void settle_in(struct world *w, bool joint)
{
    tick(w, 0);
    welcome(w, SERVER_PARAMETER, 1, 0);
    tell_weights(w, 1, 0);
    if (!joint) {
        welcome(w, SERVER_PROTOTYPE, 1, 0);
        tell_mixture(w, 0, false);
    }
    hush(w);
}

static inline void finish_a(struct world *w, struct slot_job *job)
{
    if (job->stats)
        msg_add_scalar(job->stats, "count", 4);
    assert_int_equal(session_on_part_a(w->session, job, w->now), 0);
}

static inline void finish_b(struct world *w, struct slot_job *job)
{
    job->gradient = buf_new(P * sizeof(float));
    job->new_buffers = buf_new(Q * sizeof(float));
    job->metrics = buf_new(2 * sizeof(double));
    memset(job->gradient->data, 0, job->gradient->size);
    memset(job->new_buffers->data, 0, job->new_buffers->size);
    memset(job->metrics->data, 0, job->metrics->size);
    job->metric_count = 2;
    assert_int_equal(session_on_part_b(w->session, job, w->now), 0);
}

static inline struct slot_job *expect_job(struct world *w, uint64_t step, uint32_t slot, unsigned parts)
{
    struct slot_job *job = session_next_job(w->session);
    assert_non_null(job);
    assert_int_equal(job->step, step);
    assert_int_equal(job->slot, slot);
    assert_int_equal(job->parts, parts);
    return job;
}

static inline void pong(struct world *w, enum server from, uint64_t step, uint64_t claim)
{
    struct msg m = message(MSG_PONG, 1, step, 0);
    m.seq = claim;
    tell(w, from, &m);
}

#endif
