/* Leases: expiry, turns, replaced requests, workers that go away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/error.h"
#include "server/parameter/leases.h"

enum { SLOTS = 4, DURATION = 1000, A = 11, B = 22, C = 33 };

static struct leases *fresh(uint32_t slots)
{
    struct leases *l = NULL;
    assert_int_equal(leases_new(slots, &l), 0);
    return l;
}

static void expect_grants(struct leases *l, uint64_t now, uint64_t worker, uint32_t slot, uint32_t count)
{
    uint64_t got_worker = 0;
    uint32_t got_slot = UINT32_MAX, got_count = 0;
    assert_true(leases_grant(l, now, &got_worker, &got_slot, &got_count));
    leases_limit(l, got_slot, got_count, now + DURATION);
    assert_int_equal(got_count, count);
    assert_int_equal(got_worker, worker);
    assert_int_equal(got_slot, slot);
}

static void expect_grant(struct leases *l, uint64_t now, uint64_t worker, uint32_t slot)
{
    expect_grants(l, now, worker, slot, 1);
}

static uint32_t expire(struct leases *l, uint64_t now)
{
    uint32_t n = 0;
    for (uint64_t worker; leases_take_expired(l, now, &worker); n++)
        assert_true(worker == A || worker == B);
    return n;
}

static void expect_none(struct leases *l, uint64_t now)
{
    uint64_t worker;
    uint32_t slot, count;
    assert_false(leases_grant(l, now, &worker, &slot, &count));
}

static void test_nothing_is_granted_without_a_request(void **state)
{
    (void)state;
    struct leases *l = fresh(SLOTS);
    expect_none(l, 0);
    assert_int_equal(leases_request(l, A, 1), 0);
    assert_int_equal(leases_request(l, A, 0), 0);
    expect_none(l, 0);
    leases_free(&l);
    assert_null(l);
}

static void test_one_worker_gets_what_it_wants_in_ascending_order(void **state)
{
    (void)state;
    struct leases *l = fresh(SLOTS);
    leases_request(l, A, 3);
    expect_grants(l, 0, A, 0, 2);
    expect_grant(l, 0, A, 2);
    expect_none(l, 0);
    assert_int_equal(leases_requests(l), 0);
    leases_free(&l);
}

/* Aligned powers of two that are free throughout, at the ragged end too. */
static void test_what_is_leased_at_once_is_a_node_of_the_tree(void **state)
{
    (void)state;
    struct leases *l = fresh(7);
    leases_done(l, 1, 1);
    leases_request(l, A, 7);
    expect_grant(l, 0, A, 0);
    expect_grants(l, 0, A, 2, 2);
    expect_grants(l, 0, A, 4, 2);
    expect_grant(l, 0, A, 6);
    leases_free(&l);
}

static void test_requests_take_turns_in_order_of_arrival(void **state)
{
    (void)state;
    struct leases *l = fresh(SLOTS);
    leases_request(l, B, 4);
    leases_request(l, A, 1);
    leases_request(l, C, 4);
    expect_grants(l, 0, B, 0, 2); /* a third of four, rounded up */
    expect_grant(l, 0, A, 2);
    expect_grant(l, 0, C, 3);
    expect_none(l, 0);
    leases_restart(l);
    expect_grants(l, 0, B, 0, 2);
    expect_grants(l, 0, C, 2, 2);
    leases_free(&l);
}

static void test_the_rest_of_a_request_waits_for_the_next_step(void **state)
{
    (void)state;
    struct leases *l = fresh(1);
    leases_request(l, A, 2);
    expect_grant(l, 0, A, 0);
    expect_none(l, 0);
    leases_done(l, 0, 1);
    expect_none(l, 0);
    leases_restart(l);
    expect_grant(l, 0, A, 0);
    assert_int_equal(leases_requests(l), 0);
    leases_free(&l);
}

static void test_a_newer_request_replaces_the_older_in_its_place(void **state)
{
    (void)state;
    struct leases *l = fresh(SLOTS);
    leases_request(l, A, 4);
    leases_request(l, B, 1);
    leases_request(l, A, 1);
    expect_grant(l, 0, A, 0);
    expect_grant(l, 0, B, 1);
    expect_none(l, 0);
    leases_free(&l);
}

static void test_an_expired_lease_is_granted_again(void **state)
{
    (void)state;
    struct leases *l = fresh(1);
    leases_request(l, A, 1);
    leases_request(l, B, 1);
    expect_grant(l, 50, A, 0);
    assert_int_equal(expire(l, 50 + DURATION - 1), 0);
    expect_none(l, 50 + DURATION - 1);
    assert_int_equal(expire(l, 50 + DURATION), 1);
    expect_grant(l, 50 + DURATION, B, 0);
    assert_int_equal(expire(l, 50 + DURATION), 0);
    leases_free(&l);
}

static void test_a_lease_knows_its_holder_and_its_start(void **state)
{
    (void)state;
    struct leases *l = fresh(2);
    uint64_t since = 0;
    leases_request(l, A, 1);
    expect_grant(l, 70, A, 0);
    assert_true(leases_holds(l, A, 0, &since));
    assert_int_equal(since, 70);
    assert_false(leases_holds(l, B, 0, &since));
    assert_false(leases_holds(l, A, 1, &since));
    leases_done(l, 0, 1);
    assert_false(leases_holds(l, A, 0, &since));
    leases_free(&l);
}

static void test_a_done_slot_neither_expires_nor_comes_back(void **state)
{
    (void)state;
    struct leases *l = fresh(SLOTS);
    leases_request(l, A, 4);
    expect_grants(l, 0, A, 0, 4);
    leases_done(l, 0, 2);
    assert_int_equal(expire(l, DURATION), 2);
    leases_request(l, B, 4);
    expect_grants(l, DURATION, B, 2, 2);
    expect_none(l, DURATION);
    leases_free(&l);
}

static void test_a_dead_worker_frees_its_slots_and_its_request(void **state)
{
    (void)state;
    struct leases *l = fresh(2);
    leases_request(l, A, 2);
    leases_request(l, B, 2);
    expect_grant(l, 0, A, 0);
    expect_grant(l, 0, B, 1);
    assert_int_equal(leases_drop_worker(l, A), 1);
    assert_int_equal(leases_requests(l), 1);
    expect_grant(l, 0, B, 0);
    assert_int_equal(leases_drop_worker(l, C), 0);
    leases_free(&l);
}

static void test_a_reconnected_worker_keeps_its_request(void **state)
{
    (void)state;
    struct leases *l = fresh(1);
    leases_request(l, A, 2);
    expect_grant(l, 0, A, 0);
    assert_int_equal(leases_revoke(l, A), 1);
    expect_grant(l, 0, A, 0);
    leases_free(&l);
}

static void test_an_undelivered_lease_is_released_unless_it_is_anothers(void **state)
{
    (void)state;
    struct leases *l = fresh(1);
    leases_request(l, A, 1);
    expect_grant(l, 0, A, 0);
    leases_release(l, B, 0);
    leases_request(l, B, 1);
    expect_none(l, 0);
    leases_release(l, A, 0);
    expect_grant(l, 0, B, 0);
    leases_done(l, 0, 1);
    leases_release(l, B, 0);
    leases_request(l, C, 1);
    expect_none(l, 0);
    leases_free(&l);
}

static void test_the_queue_is_bounded(void **state)
{
    (void)state;
    struct leases *l = fresh(1);
    for (uint64_t i = 1; i <= LEASES_REQUESTS_MAX; i++)
        assert_int_equal(leases_request(l, i, UINT32_MAX), 0);
    assert_int_equal(leases_request(l, LEASES_REQUESTS_MAX + 1, 1), ERR_RANGE);
    assert_int_equal(leases_request(l, 1, 1), 0);
    uint64_t worker = 0;
    for (uint64_t i = 1; i <= LEASES_REQUESTS_MAX; i++) {
        assert_true(leases_withdraw_any(l, &worker));
        assert_int_equal(worker, i);
    }
    assert_false(leases_withdraw_any(l, &worker));
    leases_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_granted_without_a_request),
        cmocka_unit_test(test_one_worker_gets_what_it_wants_in_ascending_order),
        cmocka_unit_test(test_what_is_leased_at_once_is_a_node_of_the_tree),
        cmocka_unit_test(test_requests_take_turns_in_order_of_arrival),
        cmocka_unit_test(test_the_rest_of_a_request_waits_for_the_next_step),
        cmocka_unit_test(test_a_newer_request_replaces_the_older_in_its_place),
        cmocka_unit_test(test_an_expired_lease_is_granted_again),
        cmocka_unit_test(test_a_lease_knows_its_holder_and_its_start),
        cmocka_unit_test(test_a_done_slot_neither_expires_nor_comes_back),
        cmocka_unit_test(test_a_dead_worker_frees_its_slots_and_its_request),
        cmocka_unit_test(test_a_reconnected_worker_keeps_its_request),
        cmocka_unit_test(test_an_undelivered_lease_is_released_unless_it_is_anothers),
        cmocka_unit_test(test_the_queue_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
