/* One slot from lease to acknowledgement, with both orders of the prototypes' update and without a prototype server. */
#include "tests/unit/worker/session_rig.h"

#include <math.h>

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

/* The same slot would diverge again, on any worker: end with a message instead of being leased it again and again. */
static void test_divergence_ends_the_worker(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    struct slot_job *job = expect_job(&w, 0, 0, SLOT_PART_A | SLOT_PART_B);
    finish_a(&w, job);
    hush(&w);
    assert_false(session_diverged(w.session));
    tell_simple(&w, SERVER_PROTOTYPE, MSG_ERROR, 0, 0, REASON_NON_FINITE);
    assert_int_equal(session_status(w.session), SESSION_FAILED);
    assert_true(session_diverged(w.session));
    assert_int_equal(session_goodbye(w.session), 0); /* so that its leases cost nothing */
    expect(&w, SERVER_PARAMETER, MSG_PING);
    assert_int_equal(w.said.code, 1);
    expect(&w, SERVER_PROTOTYPE, MSG_PING);
    assert_int_equal(w.said.code, 1);
    finish_b(&w, job);
    close_world(&w);
}

/* Of a step whose weights are not there yet, in the order in which the slots will begin. */
static void test_slots_that_await_weights(void **state)
{
    (void)state;
    struct world w;
    uint64_t step = 0;
    uint32_t slot = 0;
    open_world(&w, 1, 1, false);
    settle_in(&w, false);
    lease(&w, 0, 0);
    assert_false(session_awaiting(w.session, 0, &step, &slot));
    lease(&w, 1, 2);
    lease(&w, 1, 1);
    assert_true(session_awaiting(w.session, 0, &step, &slot));
    assert_true(step == 1 && slot == 1);
    assert_true(session_awaiting(w.session, 2, &step, &slot));
    assert_true(step == 1 && slot == 2);
    assert_false(session_awaiting(w.session, 3, &step, &slot));
    tell_weights(&w, 1, 1);
    assert_false(session_awaiting(w.session, 0, &step, &slot));
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
    open_world(&w, 2, 1, true);
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
    tell_update(&w, 1, 1, 1.5, 1); /* nothing follows from these */
    tell_update(&w, 1, 1, NAN, 1);
    m = message(MSG_WEIGHTS, 1, 1, 0);
    add_vector(&m, "student", P + 1, 0);
    add_vector(&m, "buffers", Q, 0);
    msg_add_scalar(&m, "ema", 0.5);
    tell(&w, SERVER_PARAMETER, &m);
    lease(&w, 1, 0);
    assert_null(session_next_job(w.session));
    tell_update(&w, 1, 1, 0.5, 0.5f);
    assert_non_null(session_next_job(w.session));
    close_world(&w);
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slot),
        cmocka_unit_test(test_gradient_waits_for_its_statistics),
        cmocka_unit_test(test_contributions_are_resent),
        cmocka_unit_test(test_refused_statistics_hold_back_the_gradient),
        cmocka_unit_test(test_divergence_ends_the_worker),
        cmocka_unit_test(test_slots_that_await_weights),
        cmocka_unit_test(test_duplicate_lease),
        cmocka_unit_test(test_leases_that_make_no_sense),
        cmocka_unit_test(test_bad_weights_are_not_taken),
        cmocka_unit_test(test_lag_0_alone),
        cmocka_unit_test(test_lag_0_leased_again),
        cmocka_unit_test(test_joint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
