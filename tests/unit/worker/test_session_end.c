/* How a session ends: STOP, signals, a slot that failed. */
#include "tests/unit/worker/session_rig.h"

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

static void test_signal_does_not_wait_forever(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_waits_for_statistics),
        cmocka_unit_test(test_signal_finishes_what_is_in_hand),
        cmocka_unit_test(test_signal_does_not_wait_forever),
        cmocka_unit_test(test_failed_slot_ends_the_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
