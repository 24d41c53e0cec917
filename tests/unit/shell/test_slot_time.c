/* The estimate behind lease times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/shell/slot_time.h"

enum { MAX_MS = 30000 };

static void test_unknown_is_the_longest(void **state)
{
    (void)state;
    struct slot_time t = {0};
    assert_int_equal(slot_time_lease_ms(&t, MAX_MS), MAX_MS);
    slot_time_missed(&t);
    assert_int_equal(slot_time_lease_ms(&t, MAX_MS), MAX_MS);
}

static void test_steady_work_tends_to_twice_its_time(void **state)
{
    (void)state;
    struct slot_time t = {0};
    slot_time_note(&t, 1000);
    assert_int_equal(slot_time_lease_ms(&t, MAX_MS), 4000);
    for (int i = 0; i < 60; i++)
        slot_time_note(&t, 1000);
    assert_in_range(slot_time_lease_ms(&t, MAX_MS), 2000, 2005);
}

static void test_fast_work_still_gets_the_least(void **state)
{
    (void)state;
    struct slot_time t = {0};
    slot_time_note(&t, 3);
    assert_int_equal(slot_time_lease_ms(&t, MAX_MS), LEASE_MIN_MS);
    assert_int_equal(slot_time_lease_ms(&t, 100), 100);
}

static void test_a_missed_lease_doubles_until_work_is_done(void **state)
{
    (void)state;
    struct slot_time t = {0};
    for (int i = 0; i < 100; i++)
        slot_time_note(&t, 1000);
    uint64_t before = slot_time_lease_ms(&t, MAX_MS);
    slot_time_missed(&t);
    assert_in_range(slot_time_lease_ms(&t, MAX_MS), 2 * before - 1, 2 * before + 1);
    for (int i = 0; i < 100; i++)
        slot_time_missed(&t);
    assert_int_equal(slot_time_lease_ms(&t, MAX_MS), MAX_MS);
    slot_time_note(&t, 1000);
    assert_in_range(slot_time_lease_ms(&t, MAX_MS), before - 1, before + 1);
}

static void test_a_slower_worker_is_followed(void **state)
{
    (void)state;
    struct slot_time t = {0};
    for (int i = 0; i < 50; i++)
        slot_time_note(&t, 1000);
    slot_time_note(&t, 4000);
    assert_true(slot_time_lease_ms(&t, MAX_MS) > 5000); /* the deviation answers at once */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_is_the_longest),
        cmocka_unit_test(test_steady_work_tends_to_twice_its_time),
        cmocka_unit_test(test_fast_work_still_gets_the_least),
        cmocka_unit_test(test_a_missed_lease_doubles_until_work_is_done),
        cmocka_unit_test(test_a_slower_worker_is_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
