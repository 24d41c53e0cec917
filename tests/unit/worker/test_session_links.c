/* The session and its two servers: hello, heartbeats, silence, restarts, and what a pair that is apart is told. */
#include "tests/unit/worker/session_rig.h"

#include <stdio.h>
#include "common/version.h"

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
    tell_simple(&w, SERVER_PARAMETER, MSG_ERROR, 0, 0, REASON_WRONG_CONFIG);
    assert_int_equal(session_status(w.session), SESSION_FAILED);
    assert_false(session_diverged(w.session));
    assert_true(session_rejected(w.session));
    close_world(&w);
}

/* Once, and not as the end: our own server may come up there. */
static void test_another_run_s_server_is_named(void **state)
{
    (void)state;
    struct world w;
    struct session_event e;
    open_world(&w, 1, 1, false);
    tick(&w, 0);
    hush(&w);
    while (session_next_event(w.session, &e))
        ;
    for (int i = 0; i < 2; i++) {
        struct msg m = message(MSG_ERROR, 1, 0, 0);
        m.code = REASON_WRONG_RUN;
        strcpy(m.run, "another");
        assert_int_equal(session_on_message(w.session, SERVER_PARAMETER, &m, w.now), 0);
    }
    assert_true(session_next_event(w.session, &e));
    assert_non_null(strstr(e.text, "event=other_run server=parameter run=\"another\""));
    assert_false(session_next_event(w.session, &e));
    assert_int_equal(session_status(w.session), SESSION_RUNNING);
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

static void test_parameter_server_restarts(void **state)
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

static void test_a_server_of_another_version_is_remarked(void **state)
{
    (void)state;
    struct world w;
    struct session_event event;
    struct msg m = message(MSG_WELCOME, 1, 0, 0);
    open_world(&w, 1, 1, false);
    tick(&w, S);
    snprintf(m.text, sizeof m.text, "%s", DECANT_VERSION);
    tell(&w, SERVER_PARAMETER, &m);
    m = message(MSG_WELCOME, 1, 0, 0);
    snprintf(m.text, sizeof m.text, "9.9.9");
    tell(&w, SERVER_PROTOTYPE, &m);
    unsigned remarks = 0;
    while (session_next_event(w.session, &event))
        if (strcmp(event.text, "event=other_version server=prototype version=\"9.9.9\" own=" DECANT_VERSION) == 0)
            remarks++;
        else
            assert_null(strstr(event.text, "other_version"));
    assert_int_equal(remarks, 1);
    close_world(&w);
}

/* Statistics that the old one had acknowledged are lost with it: the slot is computed again before its gradient counts.
 */
static void test_prototype_server_restarts(void **state)
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_hello_until_welcome),
        cmocka_unit_test(test_greets_the_prototype_server_once_admitted),
        cmocka_unit_test(test_init_when_asked),
        cmocka_unit_test(test_heartbeats),
        cmocka_unit_test(test_silence_is_named_then_fatal),
        cmocka_unit_test(test_rejection_is_fatal),
        cmocka_unit_test(test_another_run_s_server_is_named),
        cmocka_unit_test(test_other_runs_are_ignored),
        cmocka_unit_test(test_parameter_server_restarts),
        cmocka_unit_test(test_the_server_ahead_is_told_to_go_back),
        cmocka_unit_test(test_a_version_that_is_gone_leads_back),
        cmocka_unit_test(test_gradients_name_their_lineage),
        cmocka_unit_test(test_an_older_generation_is_ignored),
        cmocka_unit_test(test_a_server_of_another_version_is_remarked),
        cmocka_unit_test(test_prototype_server_restarts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
