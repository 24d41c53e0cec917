/* The launcher's decisions without processes: what is started again, in which order things are stopped, and when a run
 * ends as what. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "cli/supervision.h"

enum { WORKERS = 2, CHILDREN = CHILD_WORKERS + WORKERS, WORKER = CHILD_WORKERS };

struct world {
    struct supervision s;
    uint64_t now, step;
    bool complete;
    unsigned starts[CHILDREN], terms[CHILDREN], kills[CHILDREN], notes[2], overdue;
};

static void start(void *arg, unsigned child)
{
    struct world *w = arg;
    w->starts[child]++;
    supervision_started(&w->s, child);
}

static void signal_child(void *arg, unsigned child, int number)
{
    struct world *w = arg;
    assert_true(w->s.children[child].running);
    if (number == SIGKILL)
        w->kills[child]++;
    else
        w->terms[child]++;
}

static void note(void *arg, enum supervision_note what, unsigned child)
{
    struct world *w = arg;
    w->notes[what]++;
    w->overdue = child;
}

static void begin(struct world *w)
{
    const struct supervision_hooks hooks = {.start = start, .signal = signal_child, .note = note, .arg = w};
    memset(w, 0, sizeof *w);
    w->now = 1000;
    assert_int_equal(supervision_init(&w->s, WORKERS, &hooks), 0);
    for (unsigned i = 0; i < CHILDREN; i++)
        supervision_started(&w->s, i);
}

static void pass(struct world *w, uint64_t ms)
{
    for (uint64_t end = w->now + ms; w->now < end;) {
        w->now += 100;
        supervision_tick(&w->s, w->now);
    }
}

static enum verdict ends(struct world *w, unsigned child, enum ending ending)
{
    return supervision_on_exit(&w->s, child, ending, w->now, w->step, w->complete);
}

/* Every phase's processes leave when they are told to. */
static void leave_in_order(struct world *w)
{
    for (int i = 0; i < 600 && w->s.phase != ENDED; i++) {
        pass(w, 100);
        for (unsigned c = 0; c < CHILDREN; c++)
            if (w->s.children[c].running && w->terms[c] > 0)
                assert_int_equal(ends(w, c, ENDING_WELL), VERDICT_EXPECTED);
    }
    assert_int_equal(w->s.phase, ENDED);
}

static void test_a_run_that_is_complete_ends_orderly(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    w.complete = true;
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_WELL), VERDICT_EXPECTED);
    leave_in_order(&w);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_ORDERLY);
    supervision_fini(&w.s);
}

/* SIGTERM to the parameter server alone looks the same but for what is on disk. */
static void test_a_parameter_server_that_leaves_early_is_no_success(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_WELL), VERDICT_STOPPED);
    leave_in_order(&w);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_FAILED);
    supervision_fini(&w.s);
}

static void test_stopping_goes_in_order(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    w.s.heard = true;
    supervision_stop(&w.s, w.now);
    pass(&w, 100);
    assert_int_equal(w.terms[CHILD_PARAMETER], 1);
    assert_int_equal(w.terms[WORKER] + w.terms[CHILD_PROTOTYPE] + w.terms[CHILD_REDIS], 0);
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_WELL), VERDICT_EXPECTED);
    pass(&w, SUPERVISION_GRACE_MS - 200); /* the workers have heard STOP */
    assert_int_equal(w.terms[WORKER], 0);
    pass(&w, 400);
    assert_int_equal(w.terms[WORKER], 1);
    assert_int_equal(w.terms[CHILD_PROTOTYPE], 0);
    leave_in_order(&w);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_INTERRUPTED);
    supervision_fini(&w.s);
}

static void test_workers_that_heard_nothing_are_told_at_once(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    supervision_stop(&w.s, w.now);
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_WELL), VERDICT_EXPECTED);
    pass(&w, 300);
    assert_int_equal(w.terms[WORKER], 1);
    assert_int_equal(w.terms[WORKER + 1], 1);
    supervision_fini(&w.s);
}

static void test_the_second_signal_kills_everything_at_once(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_false(supervision_interrupted_again(&w.s));
    supervision_stop(&w.s, w.now);
    pass(&w, 100);
    assert_true(supervision_interrupted_again(&w.s));
    supervision_at_once(&w.s, w.now);
    for (unsigned i = 0; i < CHILDREN; i++)
        assert_int_equal(w.kills[i], 1);
    for (unsigned i = 0; i < CHILDREN; i++)
        assert_int_equal(ends(&w, i, ENDING_KILLED), VERDICT_EXPECTED);
    pass(&w, 100);
    assert_int_equal(w.s.phase, ENDED);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_INTERRUPTED);
    assert_int_equal(w.notes[NOTE_OVERDUE], 0); /* nothing was waited for */
    supervision_fini(&w.s);
}

/* The reader of a pipe goes with the same Ctrl-C that reaches us: that is one wish, not two. */
static void test_a_stop_for_another_reason_is_no_first_signal(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    supervision_stop(&w.s, w.now);
    assert_false(supervision_interrupted_again(&w.s));
    assert_true(supervision_interrupted_again(&w.s));
    supervision_fini(&w.s);
}

static void test_what_does_not_stop_is_killed_and_that_is_a_failure(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    supervision_stop(&w.s, w.now);
    pass(&w, SUPERVISION_DEADLINE_MS - 1000);
    assert_int_equal(w.kills[CHILD_PARAMETER], 0);
    pass(&w, 1200);
    assert_int_equal(w.kills[CHILD_PARAMETER], 1);
    assert_int_equal(w.notes[NOTE_OVERDUE], 1);
    assert_int_equal(w.overdue, CHILD_PARAMETER);
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_KILLED), VERDICT_EXPECTED); /* it was said already */
    leave_in_order(&w);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_FAILED);
    supervision_fini(&w.s);
}

static void test_what_dies_is_started_again(void **state)
{
    const unsigned children[] = {CHILD_PARAMETER, CHILD_PROTOTYPE, WORKER};
    struct world w;
    (void)state;
    begin(&w);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(ends(&w, children[i], ENDING_KILLED), VERDICT_RESTART);
        pass(&w, SUPERVISION_RESTART_MS - 100);
        assert_int_equal(w.starts[children[i]], 0);
        pass(&w, 100);
        assert_int_equal(w.starts[children[i]], 1);
    }
    assert_int_equal(w.s.phase, RUNNING);
    supervision_fini(&w.s);
}

static void test_a_prototype_server_that_leaves_early_is_started_again(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, CHILD_PROTOTYPE, ENDING_WELL), VERDICT_EXPECTED);
    pass(&w, SUPERVISION_LEFT_EARLY_MS - 100);
    assert_int_equal(w.starts[CHILD_PROTOTYPE], 0);
    pass(&w, 200);
    assert_int_equal(w.starts[CHILD_PROTOTYPE], 1);
    supervision_fini(&w.s);
}

static void test_a_server_that_keeps_ending_ends_the_run(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    for (int i = 0; i < RESTARTS_FAILED_MAX; i++) {
        assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_FAILED), VERDICT_RESTART);
        pass(&w, 1000);
    }
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_FAILED), VERDICT_GIVEN_UP);
    leave_in_order(&w);
    assert_int_equal(w.terms[WORKER], 1);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_FAILED);
    supervision_fini(&w.s);
}

/* Rarely enough for the window, but each time short of the next checkpoint. */
static void test_computing_the_same_again_and_again_ends_the_run(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    for (int i = 0; i < RESTARTS_FAILED_MAX; i++) {
        w.step = 500;
        assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_FAILED), VERDICT_RESTART);
        pass(&w, 3 * RESTARTS_WINDOW_MS);
    }
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_FAILED), VERDICT_GIVEN_UP);
    supervision_fini(&w.s);
}

static void test_a_lasting_fault_is_not_tried_again(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, WORKER, ENDING_LASTING), VERDICT_LASTING);
    assert_int_equal(w.s.phase, RUNNING); /* the other worker goes on */
    assert_int_equal(ends(&w, CHILD_PROTOTYPE, ENDING_LASTING), VERDICT_LASTING);
    assert_int_equal(w.s.phase, STOP_PARAMETER);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_FAILED);
    supervision_fini(&w.s);
}

static void test_a_diverged_run_ends_at_once_as_such(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, WORKER + 1, ENDING_DIVERGED), VERDICT_DIVERGED);
    assert_int_equal(w.s.phase, STOP_PARAMETER);
    assert_int_equal(ends(&w, WORKER, ENDING_DIVERGED), VERDICT_EXPECTED); /* once is enough */
    pass(&w, SUPERVISION_AGAIN_MS + 100);
    assert_int_equal(w.terms[CHILD_PARAMETER], 2); /* it need not wait for the step */
    leave_in_order(&w);
    assert_int_equal(w.starts[WORKER] + w.starts[WORKER + 1], 0);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_DIVERGED);
    supervision_fini(&w.s);
}

static void test_when_every_worker_has_failed_nobody_is_waited_for(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, WORKER, ENDING_LASTING), VERDICT_LASTING);
    pass(&w, 1000);
    assert_int_equal(w.notes[NOTE_NO_WORKERS], 0);
    assert_int_equal(ends(&w, WORKER + 1, ENDING_LASTING), VERDICT_LASTING);
    pass(&w, 100);
    assert_int_equal(w.notes[NOTE_NO_WORKERS], 1);
    assert_int_equal(w.s.phase, STOP_PARAMETER);
    supervision_fini(&w.s);
}

static void test_workers_that_somebody_told_to_leave_are_started_again(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, WORKER, ENDING_WELL), VERDICT_EXPECTED);
    assert_int_equal(ends(&w, WORKER + 1, ENDING_WELL), VERDICT_EXPECTED);
    pass(&w, SUPERVISION_WORKER_LEFT_MS - 100);
    assert_int_equal(w.starts[WORKER], 0); /* the parameter server may be about to end, too */
    pass(&w, 200);
    assert_int_equal(w.starts[WORKER], 1);
    assert_int_equal(w.starts[WORKER + 1], 1);
    assert_int_equal(w.s.phase, RUNNING);
    supervision_fini(&w.s);
}

static void test_workers_that_keep_leaving_end_the_run(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    for (unsigned i = 0; i < RESTARTS_KILLED_MAX; i++) {
        assert_int_equal(ends(&w, WORKER, ENDING_WELL), VERDICT_EXPECTED);
        assert_int_equal(ends(&w, WORKER + 1, ENDING_WELL), VERDICT_EXPECTED);
        pass(&w, SUPERVISION_WORKER_LEFT_MS + 100);
    }
    assert_int_equal(ends(&w, WORKER, ENDING_WELL), VERDICT_LEFT_ALONE);
    pass(&w, 1000);
    assert_int_equal(w.s.phase, RUNNING);
    assert_int_equal(ends(&w, WORKER + 1, ENDING_WELL), VERDICT_LEFT_ALONE);
    pass(&w, 100);
    assert_int_equal(w.notes[NOTE_NO_WORKERS], 1);
    leave_in_order(&w);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_FAILED);
    supervision_fini(&w.s);
}

/* The last checkpoint may take its time: a disk that is full. */
static void test_workers_that_left_after_the_last_step_are_not_missed(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    w.s.over = true;
    assert_int_equal(ends(&w, WORKER, ENDING_WELL), VERDICT_EXPECTED);
    assert_int_equal(ends(&w, WORKER + 1, ENDING_LASTING), VERDICT_LASTING);
    pass(&w, 100000);
    assert_int_equal(w.starts[WORKER], 0);
    assert_int_equal(w.s.phase, RUNNING);
    w.s.over = false; /* a server has died and gone back */
    pass(&w, 100);
    assert_int_equal(w.starts[WORKER], 1);
    supervision_fini(&w.s);
}

static void test_a_server_that_fails_while_stopping_is_a_failure(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    supervision_stop(&w.s, w.now);
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_FAILED), VERDICT_WHILE_STOPPING);
    leave_in_order(&w);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_FAILED); /* although it was interrupted, too */
    supervision_fini(&w.s);
}

/* Ctrl-C in the first moments: nobody has got far enough to listen, or to have anything to write. */
static void test_a_server_that_has_only_begun_may_be_stopped_by_sigterm(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, CHILD_PROTOTYPE, ENDING_TERMED), VERDICT_RESTART); /* not our doing */
    pass(&w, SUPERVISION_RESTART_MS);
    supervision_stop(&w.s, w.now);
    pass(&w, 100);
    assert_int_equal(ends(&w, CHILD_PARAMETER, ENDING_TERMED), VERDICT_EXPECTED);
    leave_in_order(&w);
    assert_int_equal(supervision_outcome(&w.s), OUTCOME_INTERRUPTED);
    supervision_fini(&w.s);
}

static void test_the_mirror_is_a_convenience(void **state)
{
    struct world w;
    (void)state;
    begin(&w);
    assert_int_equal(ends(&w, CHILD_REDIS, ENDING_FAILED), VERDICT_MIRROR_GONE);
    pass(&w, 1000);
    assert_int_equal(w.s.phase, RUNNING);
    assert_int_equal(w.starts[CHILD_REDIS], 0);
    supervision_fini(&w.s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_that_is_complete_ends_orderly),
        cmocka_unit_test(test_a_parameter_server_that_leaves_early_is_no_success),
        cmocka_unit_test(test_stopping_goes_in_order),
        cmocka_unit_test(test_workers_that_heard_nothing_are_told_at_once),
        cmocka_unit_test(test_the_second_signal_kills_everything_at_once),
        cmocka_unit_test(test_a_stop_for_another_reason_is_no_first_signal),
        cmocka_unit_test(test_what_does_not_stop_is_killed_and_that_is_a_failure),
        cmocka_unit_test(test_what_dies_is_started_again),
        cmocka_unit_test(test_a_prototype_server_that_leaves_early_is_started_again),
        cmocka_unit_test(test_a_server_that_keeps_ending_ends_the_run),
        cmocka_unit_test(test_computing_the_same_again_and_again_ends_the_run),
        cmocka_unit_test(test_a_lasting_fault_is_not_tried_again),
        cmocka_unit_test(test_a_diverged_run_ends_at_once_as_such),
        cmocka_unit_test(test_when_every_worker_has_failed_nobody_is_waited_for),
        cmocka_unit_test(test_workers_that_somebody_told_to_leave_are_started_again),
        cmocka_unit_test(test_workers_that_keep_leaving_end_the_run),
        cmocka_unit_test(test_workers_that_left_after_the_last_step_are_not_missed),
        cmocka_unit_test(test_a_server_that_fails_while_stopping_is_a_failure),
        cmocka_unit_test(test_a_server_that_has_only_begun_may_be_stopped_by_sigterm),
        cmocka_unit_test(test_the_mirror_is_a_convenience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
