/* How often a process may be started again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cli/restarts.h"

static void test_a_fault_that_repeats_a_few_times(void **state)
{
    (void)state;
    struct restarts r = {0};
    for (uint64_t i = 1; i <= RESTARTS_FAILED_MAX; i++)
        assert_true(restarts_after(&r, DEATH_FAILED, 1000 * i, i));
    assert_false(restarts_after(&r, DEATH_FAILED, 10000, 10));
    assert_true(restarts_after(&r, DEATH_KILLED, 10001, 10)); /* that is not its fault */
}

static void test_rare_faults_for_ever_while_the_work_gets_ahead(void **state)
{
    (void)state;
    struct restarts r = {0};
    for (uint64_t i = 1; i <= 50; i++)
        assert_true(restarts_after(&r, DEATH_FAILED, i * (RESTARTS_WINDOW_MS / RESTARTS_FAILED_MAX + 1), i / 2));
}

static void test_rare_faults_that_cost_the_same_work_again_have_an_end(void **state)
{
    const uint64_t hour = 3600000;
    (void)state;
    struct restarts r = {0};
    assert_true(restarts_after(&r, DEATH_FAILED, hour, 500));
    assert_true(restarts_after(&r, DEATH_FAILED, 2 * hour, 400)); /* went back: no progress either */
    assert_true(restarts_after(&r, DEATH_FAILED, 3 * hour, 500));
    assert_false(restarts_after(&r, DEATH_FAILED, 4 * hour, 500));
    assert_true(restarts_after(&r, DEATH_FAILED, 5 * hour, 600));
    for (uint64_t i = 0; i < RESTARTS_KILLED_MAX; i++)
        assert_true(restarts_after(&r, DEATH_KILLED, (6 + i) * hour, 600));
    assert_false(restarts_after(&r, DEATH_KILLED, 100 * hour, 600));
}

static void test_kills_often_but_not_without_end(void **state)
{
    (void)state;
    struct restarts r = {0};
    for (uint64_t i = 1; i <= RESTARTS_KILLED_MAX; i++)
        assert_true(restarts_after(&r, DEATH_KILLED, 100 * i, i));
    assert_false(restarts_after(&r, DEATH_KILLED, 100 * RESTARTS_KILLED_MAX + 1, 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fault_that_repeats_a_few_times),
        cmocka_unit_test(test_rare_faults_for_ever_while_the_work_gets_ahead),
        cmocka_unit_test(test_rare_faults_that_cost_the_same_work_again_have_an_end),
        cmocka_unit_test(test_kills_often_but_not_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
