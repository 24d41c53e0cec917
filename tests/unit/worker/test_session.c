/* The worker's session with scripted servers: what it says to whom, when, and which jobs it hands out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "proto/provenance.h"
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

/* ---- the world ---- */

static void initial(void *context, float *params, float *buffers)
{
    (void)context;
    for (int i = 0; i < P; i++)
        params[i] = (float)i;
    buffers[0] = buffers[1] = 7;
}

static void open_world(struct world *w, uint32_t threads, uint32_t lag, bool joint)
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

static void close_world(struct world *w)
{
    msg_fini(&w->said);
    session_free(&w->session);
    assert_null(w->session);
    mixture_view_free(&w->mixture);
    manifest_fini(&w->manifest);
}

/* Whether the outbox holds such a message; it is moved to w->said. Others stay. */
static bool says(struct world *w, enum server to, enum msg_type type)
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

static void expect(struct world *w, enum server to, enum msg_type type)
{
    if (!says(w, to, type))
        fail_msg("no %s at %llu us", msg_type_name(type), (unsigned long long)w->now);
}

static void hush(struct world *w)
{
    outbox_clear(session_outbox(w->session));
}

static void tick(struct world *w, uint64_t later)
{
    w->now += later;
    assert_int_equal(session_on_timer(w->session, w->now), 0);
}

static void tell(struct world *w, enum server from, struct msg *m)
{
    assert_int_equal(session_on_message(w->session, from, m, w->now), 0);
    msg_fini(m);
}

static struct msg message(enum msg_type type, uint64_t generation, uint64_t step, uint32_t slot)
{
    struct msg m;
    msg_init(&m, type, "r");
    m.generation = generation;
    m.step = step;
    m.slot = slot;
    m.slots = 1;
    return m;
}

static void tell_simple(struct world *w, enum server from, enum msg_type type, uint64_t step, uint32_t slot,
                        uint32_t code)
{
    struct msg m = message(type, 1, step, slot);
    m.code = code;
    tell(w, from, &m);
}

static void welcome(struct world *w, enum server from, uint64_t generation, uint32_t code)
{
    struct msg m = message(MSG_WELCOME, generation, 0, 0);
    m.code = code;
    tell(w, from, &m);
}

static void add_vector(struct msg *m, const char *name, uint64_t n, float value)
{
    struct buf *b = buf_new(n * sizeof(float));
    for (uint64_t i = 0; i < n; i++)
        ((float *)b->data)[i] = value;
    assert_int_equal(msg_add_tensor(m, name, DTYPE_F32, 1, &n, b), 0);
}

static void tell_weights(struct world *w, uint64_t generation, uint64_t step)
{
    struct msg m = message(MSG_WEIGHTS, generation, step, 0);
    add_vector(&m, "student", P, (float)step);
    add_vector(&m, "teacher", P, (float)step);
    add_vector(&m, "buffers", Q, (float)step);
    tell(w, SERVER_PARAMETER, &m);
}

/* Full, or a delta of one row. */
static void tell_mixture(struct world *w, uint64_t version, bool delta)
{
    const uint32_t row = 1;
    struct msg m = message(MSG_MIXTURE, 1, 0, 0);
    w->mixture->version = version;
    assert_int_equal(mixture_encode(w->mixture, delta ? &row : NULL, 1, &m), 0);
    tell(w, SERVER_PROTOTYPE, &m);
}

static void lease(struct world *w, uint64_t step, uint32_t slot)
{
    tell_simple(w, SERVER_PARAMETER, MSG_LEASE, step, slot, 0);
}

/* Both servers up; weights and mixture of step 0 held; what was said is forgotten. */
static void settle_in(struct world *w, bool joint)
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

static void finish_a(struct world *w, struct slot_job *job)
{
    if (job->stats)
        msg_add_scalar(job->stats, "count", 4);
    assert_int_equal(session_on_part_a(w->session, job, w->now), 0);
}

static void finish_b(struct world *w, struct slot_job *job)
{
    job->gradient = buf_new(P * sizeof(float));
    job->contribution = buf_new(Q * sizeof(float));
    job->metrics = buf_new(2 * sizeof(double));
    memset(job->gradient->data, 0, job->gradient->size);
    memset(job->contribution->data, 0, job->contribution->size);
    memset(job->metrics->data, 0, job->metrics->size);
    job->metric_count = 2;
    assert_int_equal(session_on_part_b(w->session, job, w->now), 0);
}

static struct slot_job *expect_job(struct world *w, uint64_t step, uint32_t slot, unsigned parts)
{
    struct slot_job *job = session_next_job(w->session);
    assert_non_null(job);
    assert_int_equal(job->step, step);
    assert_int_equal(job->slot, slot);
    assert_int_equal(job->parts, parts);
    return job;
}

/* ---- servers ---- */

static void test_says_hello_until_welcome(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    tick(&w, 0);
    expect(&w, SERVER_PARAMETER, MSG_HELLO);
    assert_string_equal(w.said.text, "h:1");
    assert_true(w.said.worker == 99 && w.said.config == 1234);
    assert_true(msg_scalar(&w.said, "total_steps", 0) == 10);
    assert_true(msg_scalar(&w.said, "data", 0) == (double)FINGERPRINT_MASK);
    assert_true(msg_scalar(&w.said, "numerics", 0) == 5);
    tick(&w, 1900 * MS);
    assert_false(says(&w, SERVER_PARAMETER, MSG_HELLO));
    tick(&w, 100 * MS);
    expect(&w, SERVER_PARAMETER, MSG_HELLO);
    welcome(&w, SERVER_PARAMETER, 1, 0);
    hush(&w);
    tick(&w, 2 * S);
    assert_false(says(&w, SERVER_PARAMETER, MSG_HELLO));
    expect(&w, SERVER_PARAMETER, MSG_PING);
    expect(&w, SERVER_PROTOTYPE, MSG_HELLO);
    close_world(&w);
}

/* A worker whose images or arithmetic are not the run's tells the prototype server nothing. */
static void test_greets_the_prototype_server_once_admitted(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    for (int i = 0; i < 100; i++) {
        tick(&w, 2 * S);
        assert_false(says(&w, SERVER_PROTOTYPE, MSG_HELLO));
        tell_simple(&w, SERVER_PARAMETER, MSG_ERROR, 0, 0, REASON_NOT_READY);
    }
    assert_int_equal(session_status(w.session), SESSION_RUNNING);
    welcome(&w, SERVER_PARAMETER, 1, 0);
    tick(&w, 50 * MS);
    expect(&w, SERVER_PROTOTYPE, MSG_HELLO);
    assert_true(msg_scalar(&w.said, "data", 0) == (double)FINGERPRINT_MASK);
    assert_true(msg_scalar(&w.said, "numerics", 0) == 5);
    close_world(&w);
}

static void test_init_when_asked(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, true);
    tick(&w, 0);
    welcome(&w, SERVER_PARAMETER, 1, 1);
    expect(&w, SERVER_PARAMETER, MSG_INIT);
    const float *params = (const float *)msg_tensor(&w.said, "params", DTYPE_F32, NULL)->data->data;
    assert_true(params[2] == 2);
    assert_false(says(&w, SERVER_PARAMETER, MSG_LEASE_REQUEST));
    for (int i = 0; i < 2; i++) {
        tick(&w, 1 * S);
        tell_simple(&w, SERVER_PARAMETER, MSG_PONG, 0, 0, 0);
    }
    expect(&w, SERVER_PARAMETER, MSG_INIT);
    hush(&w);
    tell_simple(&w, SERVER_PARAMETER, MSG_ACK, 0, 0, ACK_DUPLICATE);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET);
    expect(&w, SERVER_PARAMETER, MSG_LEASE_REQUEST);
    tick(&w, 3 * S);
    assert_false(says(&w, SERVER_PARAMETER, MSG_INIT));
    close_world(&w);
}

static void test_heartbeats(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    tick(&w, 1 * S);
    expect(&w, SERVER_PARAMETER, MSG_PING);
    assert_true(msg_scalar(&w.said, "slots_done", -1) == 0);
    expect(&w, SERVER_PROTOTYPE, MSG_PING);
    tick(&w, 500 * MS);
    assert_false(says(&w, SERVER_PARAMETER, MSG_PING));
    close_world(&w);
}

static void test_silence_is_named_then_fatal(void **state)
{
    (void)state;
    struct world w;
    struct session_event e;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    while (session_next_event(w.session, &e))
        ;
    for (int i = 0; i < 31; i++) {
        tick(&w, 1 * S);
        tell_simple(&w, SERVER_PARAMETER, MSG_PONG, 0, 0, 0);
    }
    assert_true(session_next_event(w.session, &e));
    assert_non_null(strstr(e.text, "server_silent server=prototype"));
    assert_false(session_next_event(w.session, &e));
    assert_int_equal(session_status(w.session), SESSION_RUNNING);
    for (int i = 0; i < 270; i++) {
        tick(&w, 1 * S);
        tell_simple(&w, SERVER_PARAMETER, MSG_PONG, 0, 0, 0);
    }
    assert_int_equal(session_status(w.session), SESSION_FAILED);
    assert_true(session_next_event(w.session, &e));
    assert_non_null(strstr(e.text, "server_lost server=prototype"));
    close_world(&w);
}

static void test_rejection_is_fatal(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    tick(&w, 0);
    assert_false(session_rejected(w.session));
    tell_simple(&w, SERVER_PARAMETER, MSG_ERROR, 0, 0, REASON_WRONG_CONFIG);
    assert_int_equal(session_status(w.session), SESSION_FAILED);
    assert_true(session_rejected(w.session));
    close_world(&w);
}

static void test_other_runs_are_ignored(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    tick(&w, 0);
    hush(&w);
    struct msg m = message(MSG_WELCOME, 1, 0, 0);
    strcpy(m.run, "another");
    tell(&w, SERVER_PARAMETER, &m);
    assert_int_equal(session_outbox(w.session)->count, 0);
    close_world(&w);
}

/* ---- a slot ---- */

static void test_a_slot(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 2);
    struct slot_job *job = expect_job(&w, 0, 2, SLOT_PART_A | SLOT_PART_B);
    assert_ptr_equal(job->mixture_a, job->mixture_b);
    assert_null(session_next_job(w.session));
    finish_a(&w, job);
    expect(&w, SERVER_PROTOTYPE, MSG_STATS);
    assert_true(w.said.step == 0 && w.said.slot == 2 && w.said.slots == 1);
    assert_true(msg_scalar(&w.said, "count", 0) == 4);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 2, ACK_APPLIED);
    finish_b(&w, job);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_true(w.said.step == 0 && w.said.slot == 2 && w.said.slots == 1 && w.said.want == 2);
    assert_non_null(msg_tensor(&w.said, "metrics", DTYPE_F64, NULL));
    assert_false(says(&w, SERVER_PARAMETER, MSG_LEASE_REQUEST)); /* the gradient was one */
    tell_simple(&w, SERVER_PARAMETER, MSG_ACK, 0, 2, ACK_APPLIED);
    assert_int_equal(session_slots_done(w.session), 1);
    tick(&w, 1 * S);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    close_world(&w);
}

static void test_gradient_waits_for_its_statistics(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    for (uint32_t slot = 0; slot < 2; slot++) {
        lease(&w, 0, slot);
        struct slot_job *job = expect_job(&w, 0, slot, SLOT_PART_A | SLOT_PART_B);
        finish_a(&w, job);
        finish_b(&w, job);
    }
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    expect(&w, SERVER_PARAMETER, MSG_LEASE_REQUEST);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 0, ACK_DUPLICATE);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    tell_mixture(&w, 1, true); /* version 1 exists: the other slot's were applied too */
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_int_equal(w.said.slot, 1);
    close_world(&w);
}

static void test_contributions_are_resent(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, job);
    hush(&w);
    for (int i = 0; i < 2; i++) {
        assert_false(says(&w, SERVER_PROTOTYPE, MSG_STATS));
        tick(&w, 1 * S);
        tell_simple(&w, SERVER_PROTOTYPE, MSG_PONG, 0, 0, 0);
    }
    expect(&w, SERVER_PROTOTYPE, MSG_STATS);
    tick(&w, 10 * S); /* silent: contributions do not pile up in the socket */
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_STATS));
    tell_simple(&w, SERVER_PROTOTYPE, MSG_PONG, 0, 0, 0);
    expect(&w, SERVER_PROTOTYPE, MSG_STATS);
    welcome(&w, SERVER_PROTOTYPE, 1, 0); /* a new connection: at once */
    expect(&w, SERVER_PROTOTYPE, MSG_STATS);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 0, ACK_STALE);
    hush(&w);
    welcome(&w, SERVER_PROTOTYPE, 1, 0);
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_STATS));
    finish_b(&w, job);
    close_world(&w);
}

static void test_refused_statistics_hold_back_the_gradient(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, job);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ERROR, 0, 0, REASON_UNKNOWN_VERSION); /* of a MIXTURE_GET: not meant */
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ERROR, 0, 0, REASON_BAD_VALUE);
    finish_b(&w, job);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    lease(&w, 0, 0); /* somebody's turn again */
    finish_a(&w, expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B));
    close_world(&w);
}

/* The same slot would diverge again, on any worker: end with a message instead of being leased it for ever. */
static void test_divergence_ends_the_worker(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, job);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ERROR, 0, 0, REASON_NON_FINITE);
    assert_int_equal(session_status(w.session), SESSION_FAILED);
    finish_b(&w, job);
    close_world(&w);
}

static void test_duplicate_lease(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    lease(&w, 0, 0);
    assert_null(session_next_job(w.session));
    finish_a(&w, job);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 0, ACK_APPLIED);
    finish_b(&w, job);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    lease(&w, 0, 0); /* the gradient was lost */
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_null(session_next_job(w.session));
    close_world(&w);
}

static void test_leases_that_make_no_sense(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, M);
    struct msg m = message(MSG_LEASE, 1, 0, 2);
    m.slots = UINT32_MAX;
    tell(&w, SERVER_PARAMETER, &m);
    m = message(MSG_LEASE, 1, 0, 2);
    m.slots = 0;
    tell(&w, SERVER_PARAMETER, &m);
    assert_null(session_next_job(w.session));
    m = message(MSG_LEASE, 1, 0, 2);
    m.slots = 2;
    tell(&w, SERVER_PARAMETER, &m);
    finish_a(&w, expect_job(&w, 0, 2, SLOT_PART_A | SLOT_PART_B));
    close_world(&w);
}

static void test_bad_weights_are_not_taken(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, true);
    tick(&w, 0);
    welcome(&w, SERVER_PARAMETER, 1, 0);
    lease(&w, 0, 0);
    struct msg m = message(MSG_WEIGHTS, 1, 0, 0);
    add_vector(&m, "student", P + 1, 0);
    add_vector(&m, "teacher", P, 0);
    add_vector(&m, "buffers", Q, 0);
    tell(&w, SERVER_PARAMETER, &m);
    m = message(MSG_WEIGHTS, 1, 0, 0);
    add_vector(&m, "student", P, 0);
    add_vector(&m, "teacher", P, NAN);
    add_vector(&m, "buffers", Q, 0);
    tell(&w, SERVER_PARAMETER, &m);
    m = message(MSG_WEIGHTS, 1, 0, 0);
    add_vector(&m, "student", P, 0);
    add_vector(&m, "teacher", P, 0);
    tell(&w, SERVER_PARAMETER, &m);
    assert_null(session_next_job(w.session));
    tell_weights(&w, 1, 0);
    assert_non_null(session_next_job(w.session));
    close_world(&w);
}

/* ---- versions ---- */

static void test_missing_weights_and_mixture_are_asked_for(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 1, 0); /* step 1 has begun, nothing of it is here */
    assert_false(says(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET));
    tick(&w, 200 * MS);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET);
    expect(&w, SERVER_PROTOTYPE, MSG_MIXTURE_GET);
    assert_true(w.said.step == 1 && w.said.seq == 0);
    tick(&w, 200 * MS);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET);
    tick(&w, 200 * MS);
    assert_false(says(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET)); /* back-off */
    tick(&w, 200 * MS);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET);
    tell_weights(&w, 1, 1);
    assert_null(session_next_job(w.session));
    tell_mixture(&w, 1, false);
    expect_job(&w, 1, 0, SLOT_PART_A | SLOT_PART_B);
    close_world(&w);
}

static void test_gap_in_the_mixture(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    tell_mixture(&w, 1, true);
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_MIXTURE_GET));
    tell_mixture(&w, 3, true);
    expect(&w, SERVER_PROTOTYPE, MSG_MIXTURE_GET); /* at once, the newest */
    assert_int_equal(w.said.seq, 1);
    tell_mixture(&w, 4, false);
    tell_mixture(&w, 5, true);
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_MIXTURE_GET));
    lease(&w, 5, 0);
    tell_weights(&w, 1, 5);
    assert_int_equal(expect_job(&w, 5, 0, SLOT_PART_A | SLOT_PART_B)->mixture_b->version, 5);
    close_world(&w);
}

static void test_slot_leased_again_after_its_mixture_moved_on(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    tell_mixture(&w, 1, true);
    lease(&w, 0, 3);
    struct slot_job *job = expect_job(&w, 0, 3, SLOT_PART_A | SLOT_PART_B);
    assert_null(job->mixture_a); /* its statistics are in version 1 already */
    assert_null(job->stats);
    assert_int_equal(job->mixture_b->version, 0);
    finish_a(&w, job);
    finish_b(&w, job);
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_STATS));
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    close_world(&w);
}

static void test_slot_leased_again_to_a_newcomer(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    tick(&w, 0);
    welcome(&w, SERVER_PARAMETER, 1, 0);
    tell_weights(&w, 1, 0);
    welcome(&w, SERVER_PROTOTYPE, 1, 0);
    expect(&w, SERVER_PROTOTYPE, MSG_MIXTURE_GET);
    tell_mixture(&w, 1, false); /* the newest; version 0 is needed */
    lease(&w, 0, 3);
    assert_null(session_next_job(w.session));
    tick(&w, 300 * MS);
    expect(&w, SERVER_PROTOTYPE, MSG_MIXTURE_GET);
    assert_true(w.said.step == 0 && w.said.seq == 0);
    tell_mixture(&w, 0, false);
    assert_int_equal(expect_job(&w, 0, 3, SLOT_PART_A | SLOT_PART_B)->mixture_b->version, 0);
    close_world(&w);
}

static void test_newer_weights_end_the_step(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    lease(&w, 0, 1);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    const struct buf *student = job->student;
    tell_weights(&w, 1, 1);
    tell_mixture(&w, 1, true);
    assert_ptr_equal(job->student, student); /* what is being computed keeps its inputs */
    assert_true(((const float *)student->data)[0] == 0);
    finish_a(&w, job);
    finish_b(&w, job);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    assert_null(session_next_job(w.session)); /* slot 1 is over too */
    lease(&w, 0, 2);
    assert_null(session_next_job(w.session)); /* so is a late lease */
    lease(&w, 1, 2);
    expect_job(&w, 1, 2, SLOT_PART_A | SLOT_PART_B);
    close_world(&w);
}

static void test_parameter_server_starts_anew(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    tell_weights(&w, 1, 5);
    lease(&w, 5, 0);
    struct msg pong = message(MSG_PONG, 2, 3, 0);
    tell(&w, SERVER_PARAMETER, &pong);
    tick(&w, 0);
    expect(&w, SERVER_PARAMETER, MSG_HELLO);
    tell_weights(&w, 1, 6); /* late, of the one that is gone */
    welcome(&w, SERVER_PARAMETER, 2, 0);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET);
    assert_int_equal(w.said.generation, 2);
    tell_weights(&w, 2, 3); /* back at a checkpoint */
    tell_mixture(&w, 3, false);
    assert_null(session_next_job(w.session));
    struct msg m = message(MSG_LEASE, 2, 3, 1);
    tell(&w, SERVER_PARAMETER, &m);
    expect_job(&w, 3, 1, SLOT_PART_A | SLOT_PART_B);
    close_world(&w);
}

/* ---- lag 0, joint ---- */

static void test_lag_0_alone(void **state)
{
    (void)state;
    struct world w;
    struct slot_job *job;
    open_world(&w, 1, 0, false);
    tick(&w, 0);
    welcome(&w, SERVER_PARAMETER, 1, 0);
    expect(&w, SERVER_PARAMETER, MSG_LEASE_REQUEST);
    assert_int_equal(w.said.want, M);
    hush(&w);
    settle_in(&w, false);
    for (uint32_t slot = 0; slot < M; slot++)
        lease(&w, 0, slot);
    for (uint32_t slot = 0; slot < M; slot++) {
        job = expect_job(&w, 0, slot, SLOT_PART_A);
        assert_null(job->mixture_b);
        finish_a(&w, job);
        expect(&w, SERVER_PROTOTYPE, MSG_STATS);
        tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, slot, ACK_APPLIED);
    }
    assert_null(session_next_job(w.session));
    tell_mixture(&w, 1, true);
    for (uint32_t slot = 0; slot < M; slot++) {
        job = expect_job(&w, 0, slot, SLOT_PART_B);
        assert_int_equal(job->mixture_b->version, 1);
        assert_true(((const float *)job->student->data)[0] == 0);
        finish_b(&w, job);
        expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
        assert_int_equal(w.said.want, slot + 1);
    }
    close_world(&w);
}

static void test_lag_0_leased_again(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 0, false);
    settle_in(&w, false);
    tell_mixture(&w, 1, true);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    assert_null(job->stats);
    assert_int_equal(job->mixture_b->version, 1);
    finish_a(&w, job);
    finish_b(&w, job);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    close_world(&w);
}

static void test_joint(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, true);
    tick(&w, 0);
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_HELLO));
    welcome(&w, SERVER_PARAMETER, 1, 0);
    tell_weights(&w, 1, 0);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    assert_true(job->mixture_a == NULL && job->mixture_b == NULL && job->stats == NULL);
    finish_a(&w, job);
    finish_b(&w, job);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    for (int i = 0; i < 400; i++) {
        tick(&w, 1 * S);
        tell_simple(&w, SERVER_PARAMETER, MSG_PONG, 0, 0, 0);
    }
    assert_int_equal(session_status(w.session), SESSION_RUNNING);
    close_world(&w);
}

/* ---- the end ---- */

static void test_stop_waits_for_statistics(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    lease(&w, 0, 1);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, job);
    tell_simple(&w, SERVER_PARAMETER, MSG_STOP, 10, 0, STOP_FINISHED);
    assert_null(session_next_job(w.session));
    finish_b(&w, job);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    assert_int_equal(session_status(w.session), SESSION_RUNNING);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 0, ACK_APPLIED);
    assert_int_equal(session_status(w.session), SESSION_DONE);
    expect(&w, SERVER_PARAMETER, MSG_PING);
    assert_int_equal(w.said.code, 1);
    close_world(&w);
}

static void test_signal_finishes_what_is_in_hand(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    session_stop(w.session, w.now);
    expect(&w, SERVER_PARAMETER, MSG_LEASE_REQUEST);
    assert_int_equal(w.said.want, 0);
    lease(&w, 0, 1);
    finish_a(&w, job);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 0, ACK_APPLIED);
    finish_b(&w, job);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_int_equal(session_status(w.session), SESSION_RUNNING);
    tell_simple(&w, SERVER_PARAMETER, MSG_ACK, 0, 0, ACK_APPLIED);
    assert_int_equal(session_status(w.session), SESSION_DONE);
    close_world(&w);
}

static void test_signal_does_not_wait_for_ever(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 1, 0); /* its weights never come */
    session_stop(w.session, w.now);
    tick(&w, 9 * S);
    assert_int_equal(session_status(w.session), SESSION_RUNNING);
    tick(&w, 1 * S);
    assert_int_equal(session_status(w.session), SESSION_DONE);
    close_world(&w);
}

static void test_failed_slot_ends_the_worker(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    job->rc_a = ERR_MEMORY;
    finish_a(&w, job);
    assert_int_equal(session_status(w.session), SESSION_FAILED);
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_STATS));
    assert_null(session_next_job(w.session));
    close_world(&w);
}

/* ---- leases of more than one slot ---- */

static void lease_of(struct world *w, uint64_t step, uint32_t slot, uint32_t slots)
{
    struct msg m = message(MSG_LEASE, 1, step, slot);
    m.slots = slots;
    tell(w, SERVER_PARAMETER, &m);
}

static void finish(struct world *w, struct slot_job *job, float value)
{
    uint32_t slot = job->slot;
    finish_a(w, job);
    tell_simple(w, SERVER_PROTOTYPE, MSG_ACK, 0, slot, ACK_APPLIED);
    job->gradient = buf_new(P * sizeof(float));
    job->contribution = buf_new(Q * sizeof(float));
    job->metrics = buf_new(sizeof(double));
    for (int i = 0; i < P; i++)
        ((float *)job->gradient->data)[i] = value;
    for (int i = 0; i < Q; i++)
        ((float *)job->contribution->data)[i] = 10 * value;
    *(double *)job->metrics->data = 100 * value;
    job->metric_count = 1;
    assert_int_equal(session_on_part_b(w->session, job, w->now), 0);
}

static void expect_sum(struct world *w, uint32_t slot, uint32_t slots, float value)
{
    expect(w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_true(w->said.slot == slot && w->said.slots == slots);
    assert_true(*(const float *)msg_tensor(&w->said, "grad", DTYPE_F32, NULL)->data->data == value);
    assert_true(*(const float *)msg_tensor(&w->said, "buffers", DTYPE_F32, NULL)->data->data == 10 * value);
    assert_true(*(const double *)msg_tensor(&w->said, "metrics", DTYPE_F64, NULL)->data->data == 100 * value);
}

static void test_a_lease_of_four_slots_leaves_as_one_sum(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 4, 1, false);
    settle_in(&w, false);
    lease_of(&w, 0, 0, 4);
    struct slot_job *jobs[4];
    for (uint32_t i = 0; i < 4; i++)
        jobs[i] = expect_job(&w, 0, i, SLOT_PART_A | SLOT_PART_B);
    const uint32_t order[] = {3, 0, 2, 1};
    for (uint32_t i = 0; i < 3; i++) {
        finish(&w, jobs[order[i]], (float)(1 << order[i]));
        assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT)); /* more is on its way */
    }
    finish(&w, jobs[1], 2);
    expect_sum(&w, 0, 4, 15);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    struct msg ack = message(MSG_ACK, 1, 0, 0);
    ack.slots = 4;
    tell(&w, SERVER_PARAMETER, &ack);
    assert_int_equal(session_slots_done(w.session), 4);
    close_world(&w);
}

/* What cannot come any more is not waited for. */
static void test_a_part_whose_sibling_is_refused_leaves_alone(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2, 1, false);
    settle_in(&w, false);
    lease_of(&w, 0, 2, 2);
    struct slot_job *left = expect_job(&w, 0, 2, SLOT_PART_A | SLOT_PART_B),
                    *right = expect_job(&w, 0, 3, SLOT_PART_A | SLOT_PART_B);
    finish(&w, right, 1);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    finish_a(&w, left);
    struct msg refusal = message(MSG_ERROR, 1, 0, 2);
    refusal.code = REASON_BAD_VALUE;
    tell(&w, SERVER_PROTOTYPE, &refusal);
    tick(&w, 0);
    expect_sum(&w, 3, 1, 1);
    finish_b(&w, left);
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    close_world(&w);
}

/* The sum holds both slots: both are computed again. */
static void test_a_sum_is_taken_apart_when_the_prototype_server_starts_anew(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2, 1, false);
    settle_in(&w, false);
    lease_of(&w, 0, 0, 2);
    struct slot_job *left = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B),
                    *right = expect_job(&w, 0, 1, SLOT_PART_A | SLOT_PART_B);
    finish(&w, left, 1);
    finish(&w, right, 2);
    expect_sum(&w, 0, 2, 3);
    welcome(&w, SERVER_PROTOTYPE, 2, 0);
    struct msg m = message(MSG_MIXTURE, 2, 0, 0);
    w.mixture->version = 0;
    assert_int_equal(mixture_encode(w.mixture, NULL, 1, &m), 0);
    tell(&w, SERVER_PROTOTYPE, &m);
    left = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    right = expect_job(&w, 0, 1, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, left);
    finish_a(&w, right);
    finish_b(&w, left);
    finish_b(&w, right);
    close_world(&w);
}

/* ---- two servers that have parted ---- */

static void pong(struct world *w, enum server from, uint64_t step, uint64_t claim)
{
    struct msg m = message(MSG_PONG, 1, step, 0);
    m.seq = claim;
    tell(w, from, &m);
}

static uint64_t claim_in_ping(struct world *w, enum server to)
{
    hush(w);
    tick(w, S);
    expect(w, to, MSG_PING);
    return w->said.seq;
}

static void test_the_server_ahead_is_told_to_go_back(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    tell_weights(&w, 1, 5);
    tell_mixture(&w, 5, false);
    uint64_t weights_5 = claim_in_ping(&w, SERVER_PROTOTYPE), mixture_5 = claim_in_ping(&w, SERVER_PARAMETER);
    pong(&w, SERVER_PROTOTYPE, 5, weights_5);
    pong(&w, SERVER_PARAMETER, 4, mixture_5); /* a step behind is how it should be */
    pong(&w, SERVER_PROTOTYPE, 3, 0);
    pong(&w, SERVER_PROTOTYPE, 3, (uint64_t)2 << 32 | 5); /* of another incarnation */
    assert_false(says(&w, SERVER_PARAMETER, MSG_REWIND) || says(&w, SERVER_PROTOTYPE, MSG_REWIND));
    pong(&w, SERVER_PROTOTYPE, 4, weights_5);
    expect(&w, SERVER_PARAMETER, MSG_REWIND);
    assert_true(w.said.step == 4 && w.said.generation == 1);
    pong(&w, SERVER_PROTOTYPE, 4, weights_5);
    assert_false(says(&w, SERVER_PARAMETER, MSG_REWIND)); /* once is enough for a while */
    pong(&w, SERVER_PARAMETER, 3, mixture_5);
    expect(&w, SERVER_PROTOTYPE, MSG_REWIND);
    assert_true(w.said.step == 3 && w.said.generation == 1);
    close_world(&w);
}

static void test_a_version_that_is_gone_leads_back(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    tell_weights(&w, 1, 5);
    tell_mixture(&w, 6, false);
    lease(&w, 5, 0);
    assert_null(session_next_job(w.session));
    uint64_t mixture_6 = claim_in_ping(&w, SERVER_PARAMETER); /* a second later: version 5 has been asked for */
    pong(&w, SERVER_PARAMETER, 6, mixture_6);                 /* its step is over */
    assert_false(says(&w, SERVER_PROTOTYPE, MSG_REWIND));
    pong(&w, SERVER_PARAMETER, 5, mixture_6);
    expect(&w, SERVER_PROTOTYPE, MSG_REWIND);
    assert_true(w.said.step == 5 && w.said.code == REWIND_UNHELD);
    close_world(&w);
}

/* Its publications were lost, and there may be no more of them. */
static void test_a_slot_of_an_older_step_asks_for_newer_weights(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    tell_weights(&w, 1, 5);
    tell_mixture(&w, 6, false);
    lease(&w, 5, 0);
    assert_null(session_next_job(w.session));
    hush(&w);
    tick(&w, 100 * MS);
    assert_false(says(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET));
    pong(&w, SERVER_PARAMETER, 6, 0);
    tick(&w, 200 * MS);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET);
    tell_weights(&w, 1, 6);
    tick(&w, 10 * S);
    assert_false(says(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET));
    close_world(&w);
}

static void test_gradients_name_their_lineage(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, job);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 0, ACK_APPLIED);
    finish_b(&w, job);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT);
    assert_true(msg_scalar(&w.said, "lineage", 0) == 1);
    tick(&w, S);
    expect(&w, SERVER_PARAMETER, MSG_PING);
    assert_true(msg_scalar(&w.said, "lineage", 0) == 1);
    close_world(&w);
}

static void test_an_older_generation_is_ignored(void **state)
{
    (void)state;
    struct world w;
    struct session_event event;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    welcome(&w, SERVER_PARAMETER, 3, 0);
    tell_weights(&w, 3, 2);
    while (session_next_event(w.session, &event))
        continue;
    tell_weights(&w, 2, 9);
    tell_weights(&w, 2, 10);
    assert_true(session_next_event(w.session, &event));
    assert_non_null(strstr(event.text, "older_generation"));
    assert_false(session_next_event(w.session, &event)); /* said once */
    hush(&w);
    struct msg m = message(MSG_LEASE, 3, 2, 1);
    tell(&w, SERVER_PARAMETER, &m);
    tell_mixture(&w, 2, false);
    expect_job(&w, 2, 1, SLOT_PART_A | SLOT_PART_B);
    close_world(&w);
}

/* Statistics that the old one had acknowledged are lost with it: the slot is computed again before its gradient counts.
 */
static void test_prototype_server_starts_anew(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    lease(&w, 0, 1);
    struct slot_job *first = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B),
                    *second = expect_job(&w, 0, 1, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, first);
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ACK, 0, 0, ACK_APPLIED);
    finish_b(&w, first);
    expect(&w, SERVER_PARAMETER, MSG_GRADIENT); /* held until acknowledged */
    finish_a(&w, second);
    hush(&w);
    welcome(&w, SERVER_PROTOTYPE, 2, 0);
    finish_b(&w, second); /* its statistics may be lost: no gradient */
    assert_false(says(&w, SERVER_PARAMETER, MSG_GRADIENT));
    assert_null(session_next_job(w.session)); /* the new server's mixture is not here yet */
    struct msg m = message(MSG_MIXTURE, 2, 0, 0);
    w.mixture->version = 0;
    assert_int_equal(mixture_encode(w.mixture, NULL, 1, &m), 0);
    tell(&w, SERVER_PROTOTYPE, &m);
    first = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    second = expect_job(&w, 0, 1, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, first);
    expect(&w, SERVER_PROTOTYPE, MSG_STATS);
    assert_int_equal(w.said.generation, 2);
    finish_a(&w, second);
    finish_b(&w, second);
    finish_b(&w, first);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_hello_until_welcome),
        cmocka_unit_test(test_greets_the_prototype_server_once_admitted),
        cmocka_unit_test(test_init_when_asked),
        cmocka_unit_test(test_heartbeats),
        cmocka_unit_test(test_silence_is_named_then_fatal),
        cmocka_unit_test(test_rejection_is_fatal),
        cmocka_unit_test(test_other_runs_are_ignored),
        cmocka_unit_test(test_a_slot),
        cmocka_unit_test(test_gradient_waits_for_its_statistics),
        cmocka_unit_test(test_contributions_are_resent),
        cmocka_unit_test(test_refused_statistics_hold_back_the_gradient),
        cmocka_unit_test(test_divergence_ends_the_worker),
        cmocka_unit_test(test_duplicate_lease),
        cmocka_unit_test(test_leases_that_make_no_sense),
        cmocka_unit_test(test_bad_weights_are_not_taken),
        cmocka_unit_test(test_missing_weights_and_mixture_are_asked_for),
        cmocka_unit_test(test_gap_in_the_mixture),
        cmocka_unit_test(test_slot_leased_again_after_its_mixture_moved_on),
        cmocka_unit_test(test_slot_leased_again_to_a_newcomer),
        cmocka_unit_test(test_newer_weights_end_the_step),
        cmocka_unit_test(test_parameter_server_starts_anew),
        cmocka_unit_test(test_lag_0_alone),
        cmocka_unit_test(test_lag_0_leased_again),
        cmocka_unit_test(test_joint),
        cmocka_unit_test(test_stop_waits_for_statistics),
        cmocka_unit_test(test_signal_finishes_what_is_in_hand),
        cmocka_unit_test(test_signal_does_not_wait_for_ever),
        cmocka_unit_test(test_failed_slot_ends_the_worker),
        cmocka_unit_test(test_a_lease_of_four_slots_leaves_as_one_sum),
        cmocka_unit_test(test_a_part_whose_sibling_is_refused_leaves_alone),
        cmocka_unit_test(test_a_sum_is_taken_apart_when_the_prototype_server_starts_anew),
        cmocka_unit_test(test_the_server_ahead_is_told_to_go_back),
        cmocka_unit_test(test_a_version_that_is_gone_leads_back),
        cmocka_unit_test(test_a_slot_of_an_older_step_asks_for_newer_weights),
        cmocka_unit_test(test_gradients_name_their_lineage),
        cmocka_unit_test(test_an_older_generation_is_ignored),
        cmocka_unit_test(test_prototype_server_starts_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
