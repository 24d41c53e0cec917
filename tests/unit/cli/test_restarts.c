/* How often a process may be started again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cli/restarts.h"

static void test_a_wrong_command_line_never(void **state)
{
    (void)state;
    struct restarts r = {0};
    assert_false(restarts_after(&r, DEATH_USAGE, 1));
}

static void test_a_fault_that_repeats_a_few_times(void **state)
{
    (void)state;
    struct restarts r = {0};
    for (uint64_t i = 1; i <= RESTARTS_FAILED_MAX; i++)
        assert_true(restarts_after(&r, DEATH_FAILED, 1000 * i));
    assert_false(restarts_after(&r, DEATH_FAILED, 10000));
    assert_true(restarts_after(&r, DEATH_KILLED, 10001)); /* that is not its fault */
}

static void test_rare_faults_for_ever(void **state)
{
    (void)state;
    struct restarts r = {0};
    for (uint64_t i = 1; i <= 50; i++)
        assert_true(restarts_after(&r, DEATH_FAILED, i * (RESTARTS_WINDOW_MS / RESTARTS_FAILED_MAX + 1)));
}

static void test_kills_often_but_not_without_end(void **state)
{
    (void)state;
    struct restarts r = {0};
    for (uint64_t i = 1; i <= RESTARTS_KILLED_MAX; i++)
        assert_true(restarts_after(&r, DEATH_KILLED, 100 * i));
    assert_false(restarts_after(&r, DEATH_KILLED, 100 * RESTARTS_KILLED_MAX + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wrong_command_line_never),
        cmocka_unit_test(test_a_fault_that_repeats_a_few_times),
        cmocka_unit_test(test_rare_faults_for_ever),
        cmocka_unit_test(test_kills_often_but_not_without_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
