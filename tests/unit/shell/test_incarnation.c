/* The policy of a server's life, around a core and a world that only write down what is asked of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "server/shell/incarnation.h"

enum { TOTAL = 100, OTHER = 7 /* the other server's generation */ };

struct fake {
    char calls[64]; /* one letter a call, in order */
    uint64_t step, total, generation, other;
    size_t workers;
    bool stopped, settled, rewind_due, writing, complete;
    uint64_t rewind_max, loaded_max, loaded_generation;
    uint64_t load_to; /* the step of the checkpoint that is there */
    uint64_t bound;
    bool doubts;
    int raise_rc, load_rc;
};

static void call(struct fake *f, char letter)
{
    size_t n = strlen(f->calls);
    assert_true(n + 1 < sizeof f->calls);
    f->calls[n] = letter;
    f->calls[n + 1] = '\0';
}

/* ---- the core ---- */

static int create(void *core, uint64_t generation, bool resume, struct error *e)
{
    struct fake *f = core;
    (void)e;
    call(f, resume ? 'R' : 'N');
    f->loaded_generation = generation;
    return 0;
}

static uint64_t step(void *core)
{
    return ((struct fake *)core)->step;
}

static uint64_t total_steps(void *core)
{
    return ((struct fake *)core)->total;
}

static size_t workers(void *core)
{
    return ((struct fake *)core)->workers;
}

static bool stopped(void *core)
{
    return ((struct fake *)core)->stopped;
}

static bool at_end(void *core)
{
    const struct fake *f = core;
    return f->step == f->total && !f->stopped;
}

static bool take_rewind(void *core, uint64_t *step_max)
{
    struct fake *f = core;
    bool due = f->rewind_due;
    f->rewind_due = false;
    *step_max = f->rewind_max;
    return due;
}

static int load(void *core, uint64_t now, uint64_t generation, uint64_t step_max, struct error *e)
{
    struct fake *f = core;
    (void)now;
    call(f, 'L');
    f->loaded_max = step_max;
    f->loaded_generation = generation;
    f->step = f->load_to < step_max ? f->load_to : step_max;
    return f->load_rc == 0 ? 0 : error_set(e, f->load_rc, "no memory for the checkpoint");
}

static int drain(void *core, uint64_t now)
{
    (void)now;
    call(core, 'D');
    return 0;
}

static int stop(void *core, uint64_t now)
{
    (void)now;
    call(core, 'S');
    ((struct fake *)core)->stopped = true;
    return 0;
}

static int settle(void *core, uint64_t now)
{
    struct fake *f = core;
    (void)now;
    call(f, 'E');
    f->stopped = f->settled = true;
    return 0;
}

static void checkpoint(void *core)
{
    call(core, 'c');
}

static bool doubts_lineage(void *core, const struct msg *m)
{
    (void)m;
    return ((struct fake *)core)->doubts;
}

static void bound_lineage(void *core, uint64_t newest)
{
    ((struct fake *)core)->bound = newest;
}

static const struct incarnation_core fake_core = {.create = create,
                                                  .step = step,
                                                  .total_steps = total_steps,
                                                  .workers = workers,
                                                  .stopped = stopped,
                                                  .at_end = at_end,
                                                  .take_rewind = take_rewind,
                                                  .load = load,
                                                  .drain = drain,
                                                  .stop = stop,
                                                  .settle = settle,
                                                  .checkpoint = checkpoint,
                                                  .doubts_lineage = doubts_lineage,
                                                  .bound_lineage = bound_lineage};

/* ---- the world ---- */

static int raise_generation(void *world, uint64_t *generation, struct error *e)
{
    struct fake *f = world;
    call(f, 'G');
    if (f->raise_rc != 0)
        return error_set(e, f->raise_rc, "the directory is another's");
    *generation = ++f->generation;
    return 0;
}

static uint64_t other_generation(void *world)
{
    struct fake *f = world;
    call(f, 'o');
    return f->other;
}

static bool step_complete(void *world, uint64_t s)
{
    const struct fake *f = world;
    return f->complete && s == f->total;
}

static bool writing(void *world)
{
    return ((struct fake *)world)->writing;
}

static void send_outbox(void *world)
{
    call(world, 's');
}

static const struct incarnation_world fake_world = {.raise_generation = raise_generation,
                                                    .other_generation = other_generation,
                                                    .step_complete = step_complete,
                                                    .writing = writing,
                                                    .send = send_outbox};

static void begin(struct incarnation *in, struct fake *f, bool resume)
{
    const struct incarnation_options o = {.server = SERVER_PARAMETER,
                                          .core = &fake_core,
                                          .core_arg = f,
                                          .world = &fake_world,
                                          .world_arg = f,
                                          .patience = {.linger_ms = 300, .farewell_ms = 2000, .visit_ms = 9000}};
    f->total = f->total ? f->total : TOTAL;
    f->other = OTHER;
    assert_int_equal(incarnation_start(in, &o, resume, NULL), 0);
    assert_string_equal(f->calls, resume ? "GoR" : "GoN"); /* the other's generation before the checkpoint */
    assert_int_equal(f->bound, OTHER);
    f->calls[0] = '\0';
}

static void ask_back(struct fake *f, uint64_t step_max)
{
    f->rewind_due = true;
    f->rewind_max = step_max;
}

/* ---- turns ---- */

static void test_messages_leave_before_the_snapshot(void **state)
{
    struct fake f = {.step = 5};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    incarnation_end_turn(&in, 1000, 0);
    assert_string_equal(f.calls, "sc");
    assert_false(in.leaving);
}

static void test_going_back_comes_before_both(void **state)
{
    struct fake f = {.step = 50, .load_to = 40};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    ask_back(&f, 45);
    incarnation_end_turn(&in, 1000, 0);
    assert_string_equal(f.calls, "oGoLsc"); /* judged, raised, the other's looked at, loaded, sent, handed over */
    assert_int_equal(f.loaded_max, 45);
    assert_int_equal(f.loaded_generation, 2);
    assert_int_equal(in.generation, 2);
    assert_true(in.directory_ours);
}

/* Whatever succeeds afterwards must not hide it. */
static void test_a_failed_core_ends_the_process(void **state)
{
    struct fake f = {.step = 50, .load_to = 40};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    ask_back(&f, 45);
    incarnation_end_turn(&in, 1000, ERR_MEMORY);
    assert_string_equal(f.calls, ""); /* nothing else is done with it */
    assert_true(in.leaving);
    assert_int_equal(in.error.code, ERR_MEMORY);
    incarnation_fail(&in, ERR_IO, "later");
    assert_int_equal(in.error.code, ERR_MEMORY);
}

static void test_who_cannot_go_back_ends(void **state)
{
    struct fake f = {.step = 50, .load_to = 40, .load_rc = ERR_MEMORY};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    ask_back(&f, 45);
    incarnation_end_turn(&in, 1000, 0);
    assert_true(in.leaving);
    assert_int_equal(in.error.code, ERR_MEMORY);
    assert_null(strchr(f.calls, 's'));
}

static void test_a_directory_of_another_is_left_alone(void **state)
{
    struct fake f = {.step = 50, .load_to = 40};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    f.raise_rc = ERR_STATE;
    ask_back(&f, 45);
    incarnation_end_turn(&in, 1000, 0);
    assert_int_equal(in.error.code, ERR_STATE);
    assert_null(strchr(f.calls, 'L'));
}

static void test_who_is_not_believed_changes_nothing(void **state)
{
    struct fake f = {.step = 50, .load_to = 40};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    f.step = 50 + PAIRING_PROOF_STEPS;
    incarnation_end_turn(&in, 1000, 0); /* from now on the two are known to have worked together */
    f.calls[0] = '\0';
    ask_back(&f, 45);
    incarnation_end_turn(&in, 2000, 0);
    assert_string_equal(f.calls, "osc");
    assert_int_equal(in.rewinds_refused, 1);
    f.other++;
    ask_back(&f, 45);
    incarnation_end_turn(&in, 2000, 0);
    assert_int_equal(f.step, 40);
}

static void test_a_pair_that_is_stuck_goes_to_the_newest(void **state)
{
    struct fake f = {.step = 50, .load_to = 110};
    struct incarnation in;
    (void)state;
    f.total = 1000;
    begin(&in, &f, false);
    f.step = 50 + PAIRING_PROOF_STEPS;
    incarnation_end_turn(&in, 1000, 0);
    for (uint64_t now = 2000; now <= 2000 + PAIRING_PATIENCE_MS; now += 1000) {
        assert_int_equal(in.pairs_stuck, 0);
        ask_back(&f, 3);
        incarnation_end_turn(&in, now, 0);
    }
    assert_int_equal(in.pairs_stuck, 1);
    assert_int_equal(f.loaded_max, UINT64_MAX); /* not to 3, whatever was said */
    assert_int_equal(f.step, 110);
}

/* Descriptors are out, or the file is not ours to read: nothing is concluded from that. */
static void test_a_generation_that_cannot_be_read_says_nothing(void **state)
{
    struct fake f = {.step = 50, .load_to = 40, .doubts = true};
    struct incarnation in, later;
    struct error e = {0};
    struct msg m = {0};
    (void)state;
    begin(&in, &f, false);
    f.other = GENERATION_UNKNOWN;
    incarnation_before_message(&in, &m);
    assert_int_equal(f.bound, OTHER);
    ask_back(&f, 45);
    incarnation_end_turn(&in, 1000, 0);
    assert_int_equal(in.rewinds_refused, 1);
    assert_null(strchr(f.calls, 'L'));
    f.step = 50 + PAIRING_PROOF_STEPS;
    incarnation_end_turn(&in, 1000, 0);
    assert_false(in.pairing.known);
    f.other = OTHER;
    incarnation_end_turn(&in, 1100, 0);
    assert_true(in.pairing.known);
    f.other = GENERATION_UNKNOWN;
    assert_int_equal(incarnation_start(&later, &in.o, true, &e), ERR_IO); /* a start needs to know */
    assert_non_null(strstr(e.text, "generation-prototype"));
}

static void test_doubts_look_at_the_generation_again(void **state)
{
    struct fake f = {.step = 5};
    struct incarnation in;
    struct msg m = {0};
    (void)state;
    begin(&in, &f, false);
    f.other = 9;
    incarnation_before_message(&in, &m);
    assert_int_equal(f.bound, OTHER);
    f.doubts = true;
    incarnation_before_message(&in, &m);
    assert_int_equal(f.bound, 9);
}

/* ---- the end ---- */

static void test_the_end_is_when_all_files_are_there(void **state)
{
    struct fake f = {.step = TOTAL, .writing = true, .workers = 1};
    struct incarnation in;
    (void)state;
    f.step = TOTAL - 1;
    begin(&in, &f, false);
    f.step = TOTAL;
    incarnation_end_turn(&in, 1000, 0);
    assert_null(strchr(f.calls, 'E')); /* our own is still being written */
    assert_null(incarnation_complaint(&in));
    f.writing = false;
    incarnation_on_written(&in, 1100, &(struct error){0});
    assert_null(strchr(f.calls, 'E')); /* the other's is missing */
    assert_non_null(strstr(incarnation_complaint(&in), "mixture.safetensors"));
    f.complete = true;
    f.calls[0] = '\0';
    incarnation_on_timer(&in, 1200, 0);
    assert_string_equal(f.calls, "scEs"); /* what settling says leaves in the same turn */
    assert_false(in.leaving);             /* a worker has not heard yet */
    f.workers = 0;
    incarnation_on_timer(&in, 1300, 0);
    assert_true(in.leaving);
    assert_int_equal(in.error.code, 0);
}

static void test_workers_that_do_not_leave_are_not_waited_for_long(void **state)
{
    struct fake f = {.step = TOTAL - 1, .workers = 1, .complete = true};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    f.step = TOTAL;
    incarnation_end_turn(&in, 1000, 0);
    incarnation_on_timer(&in, 2999, 0);
    assert_false(in.leaving);
    incarnation_on_timer(&in, 3000, 0);
    assert_true(in.leaving);
}

static void test_a_run_that_was_over_waits_for_visitors(void **state)
{
    struct fake f = {.step = TOTAL, .complete = true};
    struct incarnation in;
    (void)state;
    begin(&in, &f, true);
    incarnation_on_timer(&in, 1000, 0);
    incarnation_on_timer(&in, 9999, 0);
    assert_false(in.leaving);
    f.workers = 1;
    incarnation_on_timer(&in, 9999, 0);
    f.workers = 0;
    incarnation_on_timer(&in, 11998, 0);
    assert_false(in.leaving);
    incarnation_on_timer(&in, 11999, 0);
    assert_true(in.leaving);
}

static void test_an_end_that_came_without_us_is_taken(void **state)
{
    struct fake f = {.step = 50, .load_to = TOTAL, .complete = true};
    struct incarnation in;
    (void)state;
    begin(&in, &f, true);
    incarnation_on_timer(&in, 1000, 0);
    assert_int_equal(f.loaded_max, TOTAL);
    assert_non_null(strchr(f.calls, 'E'));
}

/* Its files are those of an earlier run, until this one has looked into the directory. */
static void test_but_not_of_a_directory_that_was_never_looked_into(void **state)
{
    struct fake f = {.step = 50, .load_to = TOTAL, .complete = true};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    incarnation_on_timer(&in, 1000, 0);
    assert_string_equal(f.calls, "sc");
}

static void test_an_end_that_cannot_be_read_is_tried_once(void **state)
{
    struct fake f = {.step = 50, .load_to = 40, .complete = true};
    struct incarnation in;
    (void)state;
    begin(&in, &f, true);
    incarnation_on_timer(&in, 1000, 0);
    assert_int_equal(f.step, 40);
    f.calls[0] = '\0';
    incarnation_on_timer(&in, 1100, 0);
    assert_string_equal(f.calls, "sc");
}

/* ---- signals and writes ---- */

static void test_the_first_signal_drains_the_second_does_not_wait(void **state)
{
    struct fake f = {.step = 50, .writing = true};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    incarnation_on_signal(&in, 1000);
    assert_string_equal(f.calls, "Dsc");
    assert_string_equal(incarnation_complaint(&in), "stopping");
    incarnation_on_timer(&in, 1100, 0);
    assert_false(in.leaving); /* the core is still at its step */
    incarnation_on_signal(&in, 1200);
    assert_non_null(strchr(f.calls, 'S'));
    assert_false(in.leaving); /* the snapshot of that step is being written */
    f.writing = false;
    incarnation_on_written(&in, 1300, &(struct error){0});
    assert_true(in.leaving);
    assert_int_equal(in.error.code, 0);
}

static void test_after_a_drain_workers_have_a_moment_to_hear(void **state)
{
    struct fake f = {.step = 50};
    struct incarnation in;
    (void)state;
    begin(&in, &f, false);
    incarnation_on_signal(&in, 1000);
    f.stopped = true;
    incarnation_on_timer(&in, 1100, 0);
    incarnation_on_timer(&in, 1399, 0);
    assert_false(in.leaving);
    incarnation_on_timer(&in, 1400, 0);
    assert_true(in.leaving);
}

static void test_a_directory_that_is_lost_ends_the_process_another_failure_does_not(void **state)
{
    struct fake f = {.step = 50};
    struct incarnation in;
    struct error full = {.code = ERR_IO, .text = "no space"}, lost = {.code = ERR_STATE, .text = "another's"};
    (void)state;
    begin(&in, &f, false);
    incarnation_on_written(&in, 1000, &full);
    assert_false(in.leaving);
    incarnation_on_written(&in, 1100, &lost);
    assert_true(in.leaving);
    assert_int_equal(in.error.code, ERR_STATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_leave_before_the_snapshot),
        cmocka_unit_test(test_going_back_comes_before_both),
        cmocka_unit_test(test_a_failed_core_ends_the_process),
        cmocka_unit_test(test_who_cannot_go_back_ends),
        cmocka_unit_test(test_a_directory_of_another_is_left_alone),
        cmocka_unit_test(test_who_is_not_believed_changes_nothing),
        cmocka_unit_test(test_a_pair_that_is_stuck_goes_to_the_newest),
        cmocka_unit_test(test_a_generation_that_cannot_be_read_says_nothing),
        cmocka_unit_test(test_doubts_look_at_the_generation_again),
        cmocka_unit_test(test_the_end_is_when_all_files_are_there),
        cmocka_unit_test(test_workers_that_do_not_leave_are_not_waited_for_long),
        cmocka_unit_test(test_a_run_that_was_over_waits_for_visitors),
        cmocka_unit_test(test_an_end_that_came_without_us_is_taken),
        cmocka_unit_test(test_but_not_of_a_directory_that_was_never_looked_into),
        cmocka_unit_test(test_an_end_that_cannot_be_read_is_tried_once),
        cmocka_unit_test(test_the_first_signal_drains_the_second_does_not_wait),
        cmocka_unit_test(test_after_a_drain_workers_have_a_moment_to_hear),
        cmocka_unit_test(test_a_directory_that_is_lost_ends_the_process_another_failure_does_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
