/* When the mirror connects, gives up, writes and ends: the decisions, on a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/prototype/mirror_policy.h"

enum { INTERVAL_MS = 1000, SEED = 7 };

static void open_policy(struct mirror_policy *p)
{
    mirror_policy_init(p, INTERVAL_MS / 1000.0, SEED);
}

static enum mirror_action decide(const struct mirror_policy *p, uint64_t now)
{
    const char *why = "";
    enum mirror_action action = mirror_policy_decide(p, now, &why);
    assert_int_equal(action == MIRROR_DROP, why[0] != '\0' && action == MIRROR_DROP);
    return action;
}

/* Linked and with an update begun at `now`. */
static void begin_update(struct mirror_policy *p, uint64_t now)
{
    if (p->phase != MIRROR_IDLE) {
        mirror_policy_reaching(p, now);
        mirror_policy_linked(p, now);
    }
    p->wake_ms = now;
    assert_int_equal(decide(p, now), MIRROR_UPDATE);
    mirror_policy_updating(p, now);
}

static void test_an_update_begins_at_once_and_then_at_intervals(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    assert_int_equal(decide(&p, 0), MIRROR_CONNECT);
    mirror_policy_reaching(&p, 0);
    assert_int_equal(decide(&p, 10), MIRROR_REST);
    mirror_policy_linked(&p, 20);
    assert_int_equal(decide(&p, 20), MIRROR_UPDATE);
    mirror_policy_updating(&p, 20);
    mirror_policy_sent(&p, 20);
    assert_int_equal(decide(&p, 30), MIRROR_REST);
    mirror_policy_answered(&p, 400);
    mirror_policy_ended(&p, MIRROR_TAKEN);
    assert_int_equal(decide(&p, 20 + INTERVAL_MS - 1), MIRROR_REST);
    assert_int_equal(decide(&p, 20 + INTERVAL_MS), MIRROR_UPDATE);
}

/* Each pause lies between a half and the whole of one that doubles up to the maximum. */
static void test_pauses_grow_with_jitter_and_are_bounded(void **state)
{
    static const uint64_t whole[] = {100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000};
    struct mirror_policy p, other;
    uint64_t now = 0;
    bool differs = false;
    (void)state;
    open_policy(&p);
    mirror_policy_init(&other, 1, SEED + 1);
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        mirror_policy_lost(&p, now);
        mirror_policy_lost(&other, now);
        uint64_t pause = p.wake_ms - now;
        assert_in_range(pause, whole[i] / 2, whole[i]);
        differs = differs || p.wake_ms != other.wake_ms;
        assert_int_equal(decide(&p, p.wake_ms - 1), MIRROR_REST);
        assert_int_equal(decide(&p, p.wake_ms), MIRROR_CONNECT);
        now = p.wake_ms;
    }
    assert_true(differs);
}

/* A stranger that greets well and then misbehaves gets no shorter pauses; an update that was taken whole ends them. */
static void test_only_a_whole_update_makes_pauses_short_again(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    for (int i = 0; i < 10; i++) {
        begin_update(&p, 0);
        mirror_policy_sent(&p, 0);
        mirror_policy_lost(&p, 0);
    }
    assert_in_range(p.wake_ms, 2500, 5000);
    begin_update(&p, 0);
    mirror_policy_ended(&p, MIRROR_REFUSED);
    mirror_policy_lost(&p, 0);
    assert_in_range(p.wake_ms, 2500, 5000);
    begin_update(&p, 0);
    mirror_policy_ended(&p, MIRROR_TAKEN);
    mirror_policy_lost(&p, 0);
    assert_in_range(p.wake_ms, 50, 100);
}

static void test_connecting_has_a_deadline(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    mirror_policy_reaching(&p, 500);
    assert_int_equal(decide(&p, 500 + 2999), MIRROR_REST);
    assert_int_equal(decide(&p, 500 + 3000), MIRROR_DROP);
}

/* Progress is a whole answer, not a byte; a batch into an empty pipeline begins anew. */
static void test_answers_have_a_deadline(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    begin_update(&p, 0);
    mirror_policy_sent(&p, 100);
    mirror_policy_sent(&p, 3000);
    assert_int_equal(decide(&p, 5099), MIRROR_REST);
    assert_int_equal(decide(&p, 5100), MIRROR_DROP);
    mirror_policy_answered(&p, 5050);
    assert_int_equal(decide(&p, 10049), MIRROR_REST);
    assert_int_equal(decide(&p, 10050), MIRROR_DROP);
    mirror_policy_answered(&p, 10000);
    mirror_policy_sent(&p, 10010);
    assert_int_equal(decide(&p, 15009), MIRROR_REST);
    assert_int_equal(decide(&p, 15010), MIRROR_DROP);
}

static void test_an_update_with_nothing_in_flight_has_failed(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    begin_update(&p, 0);
    assert_int_equal(decide(&p, 1), MIRROR_DROP);
}

static void test_two_batches_are_in_flight_at_most(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    assert_false(mirror_policy_may_send(&p));
    begin_update(&p, 0);
    assert_true(mirror_policy_may_send(&p));
    mirror_policy_sent(&p, 0);
    assert_true(mirror_policy_may_send(&p));
    mirror_policy_sent(&p, 0);
    assert_false(mirror_policy_may_send(&p));
    mirror_policy_answered(&p, 0);
    assert_true(mirror_policy_may_send(&p));
}

static uint64_t pause_after(struct mirror_policy *p, enum mirror_outcome outcome)
{
    begin_update(p, 0);
    mirror_policy_ended(p, outcome);
    return p->wake_ms;
}

static void test_refusals_are_asked_less_and_less(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(pause_after(&p, MIRROR_REFUSED), INTERVAL_MS << (i < 5 ? i : 5));
    assert_int_equal(pause_after(&p, MIRROR_TAKEN), INTERVAL_MS);
    assert_int_equal(pause_after(&p, MIRROR_REFUSED), INTERVAL_MS);
}

static void test_a_superseded_server_stands_back(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    assert_int_equal(pause_after(&p, MIRROR_SUPERSEDED), 10 * INTERVAL_MS);
    assert_true(p.superseded);
    assert_int_equal(pause_after(&p, MIRROR_TAKEN), INTERVAL_MS);
    assert_false(p.superseded);
}

static void test_an_unfit_redis_is_looked_at_again_much_later(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    mirror_policy_reaching(&p, 0);
    mirror_policy_unfit(&p, 0);
    assert_in_range(p.wake_ms, 30000, 60000);
    assert_int_equal(decide(&p, p.wake_ms), MIRROR_CONNECT);
}

static void test_what_is_void_is_replaced_at_once(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    pause_after(&p, MIRROR_TAKEN);
    assert_int_equal(decide(&p, 1), MIRROR_REST);
    mirror_policy_hurry(&p);
    assert_int_equal(decide(&p, 1), MIRROR_UPDATE);
    mirror_policy_lost(&p, 1000);
    mirror_policy_hurry(&p); /* but not by connecting more often */
    assert_int_equal(decide(&p, 1001), MIRROR_REST);
}

static void test_stopping_writes_once_more_and_ends(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    pause_after(&p, MIRROR_TAKEN);
    mirror_policy_stop(&p, 10);
    assert_int_equal(decide(&p, 10), MIRROR_UPDATE);
    mirror_policy_updating(&p, 10);
    mirror_policy_sent(&p, 10);
    assert_int_equal(decide(&p, 1009), MIRROR_REST);
    assert_int_equal(decide(&p, 1010), MIRROR_CLOSE); /* a slow one is not waited for */
    mirror_policy_answered(&p, 500);
    mirror_policy_ended(&p, MIRROR_TAKEN);
    assert_int_equal(decide(&p, 500), MIRROR_CLOSE);
}

/* What was copied before the stop lacks the last version. */
static void test_an_update_from_before_the_stop_is_not_the_last(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    begin_update(&p, 0);
    mirror_policy_sent(&p, 0);
    mirror_policy_stop(&p, 10);
    mirror_policy_answered(&p, 20);
    mirror_policy_ended(&p, MIRROR_TAKEN);
    assert_int_equal(decide(&p, 20), MIRROR_UPDATE);
}

/* One that had no room for all is followed by the next at once, also at the end, until the deadline. */
static void test_more_follows_at_once(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    begin_update(&p, 0);
    mirror_policy_ended(&p, MIRROR_TAKEN);
    mirror_policy_more(&p);
    assert_int_equal(decide(&p, 1), MIRROR_UPDATE);
    mirror_policy_stop(&p, 10);
    mirror_policy_updating(&p, 10);
    mirror_policy_ended(&p, MIRROR_TAKEN);
    mirror_policy_more(&p);
    assert_int_equal(decide(&p, 20), MIRROR_UPDATE);
    assert_int_equal(decide(&p, 1010), MIRROR_CLOSE);
}

static void test_stopping_without_a_link_ends_at_once(void **state)
{
    struct mirror_policy p;
    (void)state;
    open_policy(&p);
    mirror_policy_stop(&p, 0);
    assert_int_equal(decide(&p, 0), MIRROR_CLOSE);
    open_policy(&p);
    mirror_policy_reaching(&p, 0);
    mirror_policy_stop(&p, 0);
    assert_int_equal(decide(&p, 0), MIRROR_CLOSE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_update_begins_at_once_and_then_at_intervals),
        cmocka_unit_test(test_pauses_grow_with_jitter_and_are_bounded),
        cmocka_unit_test(test_only_a_whole_update_makes_pauses_short_again),
        cmocka_unit_test(test_connecting_has_a_deadline),
        cmocka_unit_test(test_answers_have_a_deadline),
        cmocka_unit_test(test_an_update_with_nothing_in_flight_has_failed),
        cmocka_unit_test(test_two_batches_are_in_flight_at_most),
        cmocka_unit_test(test_refusals_are_asked_less_and_less),
        cmocka_unit_test(test_a_superseded_server_stands_back),
        cmocka_unit_test(test_an_unfit_redis_is_looked_at_again_much_later),
        cmocka_unit_test(test_what_is_void_is_replaced_at_once),
        cmocka_unit_test(test_stopping_writes_once_more_and_ends),
        cmocka_unit_test(test_an_update_from_before_the_stop_is_not_the_last),
        cmocka_unit_test(test_more_follows_at_once),
        cmocka_unit_test(test_stopping_without_a_link_ends_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
