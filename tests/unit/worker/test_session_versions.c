/* Versions of weights and mixture: what is missing is asked for, what is over is dropped. */
#include "tests/unit/worker/session_rig.h"

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

static float teacher_of_job(struct world *w, uint64_t step)
{
    struct slot_job *job = expect_job(w, step, 0, SLOT_PART_A | SLOT_PART_B);
    assert_true(((const float *)job->student->data)[P - 1] == (float)step);
    return ((const float *)job->teacher->data)[P - 1];
}

static void test_the_teacher_follows_the_student(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 2, 1, true);
    settle_in(&w, true);
    tell_update(&w, 1, 1, 0.5, 0.5f);
    tell_update(&w, 1, 2, 0.75, 0.875f);
    lease(&w, 2, 0);
    assert_true(teacher_of_job(&w, 2) == 0.875f);
    tell_weights(&w, 1, 3); /* after a step that was skipped the pair is published whole */
    tell_update(&w, 1, 4, 0, 4);
    lease(&w, 4, 0);
    assert_true(teacher_of_job(&w, 4) == 4);
    assert_false(says(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET));
    close_world(&w);
}

static void test_gap_in_the_weights(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, true);
    settle_in(&w, true);
    tell_update(&w, 1, 1, 0.5, 0.5f);
    assert_false(says(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET));
    tell_update(&w, 1, 3, 0.5, 1);
    lease(&w, 3, 0);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET); /* at once */
    hush(&w);
    assert_null(session_next_job(w.session));
    tell_weights(&w, 1, 2);                        /* the answer left before version 3 was published */
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET); /* and so again at once */
    hush(&w);
    tell_weights(&w, 1, 3);
    tick(&w, 10 * S);
    assert_false(says(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET));
    assert_true(teacher_of_job(&w, 3) == 3);
    close_world(&w);
}

/* The server's teacher is another one than ours: of another build, or of a run with our generation. */
static void test_another_teacher_is_found_out(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, true);
    settle_in(&w, true);
    tell_update(&w, 1, 1, 0.5, 0.75f);
    expect(&w, SERVER_PARAMETER, MSG_WEIGHTS_GET);
    struct session_event event;
    bool told = false;
    while (session_next_event(w.session, &event))
        told = told || strstr(event.text, "event=teacher_differs step=1") != NULL;
    assert_true(told);
    lease(&w, 1, 0);
    assert_null(session_next_job(w.session));
    tell_weights(&w, 1, 1);
    assert_true(teacher_of_job(&w, 1) == 1);
    close_world(&w);
}

/* A restarted server may be at any step, and has its own teacher. */
static void test_a_teacher_follows_none_of_another_generation(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, 1, 1, true);
    settle_in(&w, true);
    tell_update(&w, 1, 1, 0.5, 0.5f);
    welcome(&w, SERVER_PARAMETER, 2, 0);
    hush(&w);
    tell_update(&w, 2, 2, 0.5, 1);
    lease(&w, 2, 0);
    assert_null(session_next_job(w.session));
    tell_weights(&w, 2, 2);
    struct msg m = message(MSG_LEASE, 2, 2, 0);
    tell(&w, SERVER_PARAMETER, &m);
    assert_true(teacher_of_job(&w, 2) == 2);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_weights_and_mixture_are_asked_for),
        cmocka_unit_test(test_gap_in_the_mixture),
        cmocka_unit_test(test_slot_leased_again_after_its_mixture_moved_on),
        cmocka_unit_test(test_slot_leased_again_to_a_newcomer),
        cmocka_unit_test(test_newer_weights_end_the_step),
        cmocka_unit_test(test_the_teacher_follows_the_student),
        cmocka_unit_test(test_gap_in_the_weights),
        cmocka_unit_test(test_another_teacher_is_found_out),
        cmocka_unit_test(test_a_teacher_follows_none_of_another_generation),
        cmocka_unit_test(test_a_slot_of_an_older_step_asks_for_newer_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
