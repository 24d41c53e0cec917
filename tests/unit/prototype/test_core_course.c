/* A core that stops, drains, forgets silent workers, and goes back. */
#include "tests/unit/prototype/core_rig.h"

static void test_stopping_refuses_statistics_only(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct msg m;
    prototype_core_stop(core);
    stats_message(0, 0, STATS_DENSE, &m);
    expect(core, &m, MSG_ERROR, REASON_STOPPING);
    msg_init(&m, MSG_MIXTURE_GET, "unit");
    m.seq = 1;
    expect(core, &m, MSG_MIXTURE, 0);
    prototype_core_free(&core);
}

static void test_silent_workers_are_forgotten(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct outbox out = {0};
    apply(core, 0, 0, STATS_DENSE); /* worker 5 at 1000 ms */
    assert_int_equal(prototype_core_workers(core)->count, 1);
    assert_int_equal(prototype_core_workers(core)->workers[0].slots_done, 1);
    prototype_core_on_timer(core, 1000 + WORKERS_SILENCE_MS - 1, &out);
    assert_int_equal(prototype_core_workers(core)->count, 1);
    prototype_core_on_timer(core, 1000 + WORKERS_SILENCE_MS, &out);
    assert_int_equal(prototype_core_workers(core)->count, 0);
    outbox_fini(&out);
    prototype_core_free(&core);
}

/* The parameter server finishes its step when both are told to end, so its statistics are still wanted. */
static void test_draining_lasts_until_the_workers_leave(void **state)
{
    (void)state;
    struct prototype_core *core = six_step_core();
    struct outbox out = {0};
    struct msg goodbye;
    apply(core, 0, 0, STATS_DENSE);
    prototype_core_drain(core, 1000);
    apply(core, 0, 1, STATS_DENSE);
    assert_false(prototype_core_stopped(core));
    msg_init(&goodbye, MSG_PING, "unit");
    goodbye.worker = 5;
    goodbye.code = 1;
    expect(core, &goodbye, MSG_PONG, 0);
    assert_true(prototype_core_stopped(core));
    prototype_core_free(&core);
    core = six_step_core();
    apply(core, 0, 0, STATS_DENSE);
    prototype_core_drain(core, 1000);
    prototype_core_on_timer(core, 1000 + PROTOTYPE_DRAIN_MS - 1, &out);
    assert_false(prototype_core_stopped(core));
    prototype_core_on_timer(core, 1000 + PROTOTYPE_DRAIN_MS, &out);
    assert_true(prototype_core_stopped(core));
    outbox_fini(&out);
    prototype_core_free(&core);
}

static void run_to(struct prototype_core *core, uint64_t version)
{
    for (uint64_t t = version_of(core); t < version; t++)
        for (uint32_t slot = 0; slot < 4; slot++)
            apply(core, t, slot, STATS_FACTORED);
}

static struct msg rewind_message(uint64_t generation, uint64_t step)
{
    struct msg m;
    msg_init(&m, MSG_REWIND, "unit");
    m.worker = 5;
    m.generation = generation;
    m.step = step;
    return m;
}

/* Only who is more than a version ahead goes back, only when asked by generation, and only from a worker. */
static void test_rewind_is_taken_when_the_pair_is_apart(void **state)
{
    (void)state;
    uint64_t step_max = 0;
    struct prototype_core *core = six_step_core();
    run_to(core, 4);
    struct msg m = rewind_message(3, 3);
    expect(core, &m, MSG_ACK, ACK_STALE);
    m = rewind_message(2, 1);
    expect(core, &m, MSG_ERROR, REASON_WRONG_GENERATION);
    m = rewind_message(0, 1);
    expect(core, &m, MSG_ERROR, REASON_BAD_FIELD);
    m = rewind_message(3, 1);
    m.worker = 0;
    expect(core, &m, MSG_ERROR, REASON_BAD_FIELD);
    assert_false(prototype_core_take_rewind(core, &step_max));
    m = rewind_message(3, 1);
    expect(core, &m, MSG_ACK, ACK_APPLIED);
    assert_true(prototype_core_take_rewind(core, &step_max));
    assert_int_equal(step_max, 1);
    assert_false(prototype_core_take_rewind(core, &step_max));
    prototype_core_free(&core);
}

/* Gone back to a checkpoint or to the start, and on again: the same bytes as never having been elsewhere. */
/* Resumed at version 2, it lacks version 1, which slots of step 1 need. */
static void test_rewind_is_taken_when_a_version_is_not_held(void **state)
{
    (void)state;
    uint64_t step_max = 0;
    struct outbox out = {0};
    struct mixture *at_two = NULL;
    struct prototype_core *core = six_step_core();
    run_to(core, 2);
    struct msg m = rewind_message(3, 1);
    m.code = REWIND_UNHELD;
    expect(core, &m, MSG_ACK, ACK_STALE); /* it holds both */
    assert_int_equal(mixture_clone(prototype_core_mixture(core), &at_two), 0);
    assert_int_equal(prototype_core_rewind(core, 4, at_two, &out), 0);
    m = rewind_message(4, 1);
    expect(core, &m, MSG_ACK, ACK_STALE);
    m = rewind_message(4, 0);
    m.code = REWIND_UNHELD;
    expect(core, &m, MSG_ACK, ACK_STALE); /* was long under way: not what it says any more */
    m = rewind_message(4, 1);
    m.code = REWIND_UNHELD;
    expect(core, &m, MSG_ACK, ACK_APPLIED);
    assert_true(prototype_core_take_rewind(core, &step_max));
    assert_int_equal(step_max, 1);
    outbox_fini(&out);
    prototype_core_free(&core);
}

static void test_rewind_leads_to_the_same_bytes(void **state)
{
    (void)state;
    struct outbox out = {0};
    struct mixture *at_two = NULL;
    struct prototype_core *core = six_step_core(), *undisturbed = six_step_core();
    run_to(undisturbed, 5);
    run_to(core, 2);
    assert_int_equal(mixture_clone(prototype_core_mixture(core), &at_two), 0);
    run_to(core, 5);
    apply(core, 5, 1, STATS_FACTORED); /* a partial step is dropped */
    assert_int_equal(prototype_core_rewind(core, 4, at_two, &out), 0);
    assert_int_equal(version_of(core), 2);
    assert_int_equal(out.items[0].msg.type, MSG_MIXTURE); /* who listens learns of the new generation */
    assert_int_equal(out.items[0].msg.generation, 4);
    run_to(core, 5);
    assert_same_state(core, undisturbed);
    outbox_clear(&out);
    assert_int_equal(prototype_core_rewind(core, 5, NULL, &out), 0);
    assert_int_equal(version_of(core), 0);
    run_to(core, 5);
    assert_same_state(core, undisturbed);
    outbox_fini(&out);
    prototype_core_free(&core);
    prototype_core_free(&undisturbed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopping_refuses_statistics_only),
        cmocka_unit_test(test_silent_workers_are_forgotten),
        cmocka_unit_test(test_draining_lasts_until_the_workers_leave),
        cmocka_unit_test(test_rewind_is_taken_when_the_pair_is_apart),
        cmocka_unit_test(test_rewind_is_taken_when_a_version_is_not_held),
        cmocka_unit_test(test_rewind_leads_to_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
