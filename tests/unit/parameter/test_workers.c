/* The worker table: known by id, reached at the newest address, forgotten when silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "server/parameter/workers.h"

static const struct peer here = {.size = 1, .id = {1}}, there = {.size = 1, .id = {2}};

static struct workers *fresh(void)
{
    struct workers *w = NULL;
    assert_int_equal(workers_new(&w), 0);
    return w;
}

static void test_an_empty_table_knows_nobody(void **state)
{
    (void)state;
    struct workers *w = fresh();
    struct worker gone;
    assert_int_equal(workers_count(w), 0);
    assert_null(workers_find(w, 1));
    assert_false(workers_take_silent(w, UINT64_MAX, &gone));
    workers_forget(w, 1);
    workers_free(&w);
    assert_null(w);
}

static void test_a_worker_moves_with_its_messages(void **state)
{
    (void)state;
    struct workers *w = fresh();
    bool moved = true;
    assert_non_null(workers_touch(w, 7, &here, 0, &moved));
    assert_false(moved);
    workers_touch(w, 7, &here, 1, &moved);
    assert_false(moved);
    struct worker *known = workers_touch(w, 7, &there, 2, &moved);
    assert_true(moved);
    assert_true(peer_equal(&known->peer, &there));
    assert_int_equal(workers_count(w), 1);
    workers_free(&w);
}

static void test_the_silent_are_taken_out(void **state)
{
    (void)state;
    struct workers *w = fresh();
    struct worker gone;
    bool moved;
    workers_touch(w, 7, &here, 100, &moved);
    workers_touch(w, 8, &there, 101, &moved);
    assert_false(workers_take_silent(w, 99 + WORKERS_SILENCE_MS, &gone));
    assert_true(workers_take_silent(w, 100 + WORKERS_SILENCE_MS, &gone));
    assert_int_equal(gone.id, 7);
    assert_false(workers_take_silent(w, 100 + WORKERS_SILENCE_MS, &gone));
    assert_null(workers_find(w, 7));
    assert_non_null(workers_find(w, 8));
    workers_free(&w);
}

static void test_a_full_table_takes_no_more(void **state)
{
    (void)state;
    struct workers *w = fresh();
    bool moved;
    for (uint64_t id = 1; id <= WORKERS_MAX; id++)
        assert_non_null(workers_touch(w, id, &here, 0, &moved));
    assert_null(workers_touch(w, WORKERS_MAX + 1, &here, 0, &moved));
    assert_non_null(workers_touch(w, 1, &here, 0, &moved));
    workers_forget(w, 1);
    assert_non_null(workers_touch(w, WORKERS_MAX + 1, &here, 0, &moved));
    workers_free(&w);
}

static void test_hosts_are_made_fit_for_logs(void **state)
{
    (void)state;
    struct worker w = {0};
    worker_set_host(&w, "");
    assert_string_equal(w.host, "");
    worker_set_host(&w, "a b\n\x1b:\xff"
                        "1");
    assert_string_equal(w.host, "a_b__:_1");
    char longer[200];
    memset(longer, 'x', sizeof longer);
    longer[199] = '\0';
    worker_set_host(&w, longer);
    assert_int_equal(strlen(w.host), sizeof w.host - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_table_knows_nobody), cmocka_unit_test(test_a_worker_moves_with_its_messages),
        cmocka_unit_test(test_the_silent_are_taken_out),    cmocka_unit_test(test_a_full_table_takes_no_more),
        cmocka_unit_test(test_hosts_are_made_fit_for_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
