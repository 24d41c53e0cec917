/* The worker table: known by id, reached at the newest address, forgotten when silent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "server/shell/worker_table.h"

static const struct peer here = {.size = 1, .id = {1}}, there = {.size = 1, .id = {2}};

static struct worker_table *fresh(void)
{
    struct worker_table *t = calloc(1, sizeof *t);
    assert_non_null(t);
    return t;
}

static enum worker_verdict note(struct worker_table *t, uint64_t id, const struct peer *from, uint64_t now)
{
    struct msg m;
    struct worker *w;
    msg_init(&m, MSG_LEASE_REQUEST, "run");
    m.worker = id;
    enum worker_verdict v = worker_table_note(t, &m, from, now, &w);
    assert_ptr_equal(w, v == WORKER_FULL ? NULL : worker_table_find(t, worker_handle(id, from)));
    return v;
}

static void test_an_empty_table_knows_nobody(void **state)
{
    (void)state;
    struct worker_table *t = fresh();
    struct worker gone;
    assert_null(worker_table_find(t, 1));
    assert_false(worker_table_take_silent(t, UINT64_MAX, &gone));
    worker_table_forget(t, 1);
    assert_int_equal(t->count, 0);
    free(t);
}

static void test_a_worker_moves_with_its_messages(void **state)
{
    (void)state;
    struct worker_table *t = fresh();
    assert_int_equal(note(t, 7, &here, 0), WORKER_KNOWN);
    assert_int_equal(note(t, 7, &here, 1), WORKER_KNOWN);
    assert_int_equal(note(t, 7, &there, 2), WORKER_MOVED);
    const struct worker *w = worker_table_find(t, 7);
    assert_true(peer_equal(&w->peer, &there));
    assert_int_equal(w->first_ms, 0);
    assert_int_equal(w->seen_ms, 2);
    assert_int_equal(t->count, 1);
    free(t);
}

static void test_nobody_speaks_for_a_worker_of_another_key(void **state)
{
    (void)state;
    struct worker_table *t = fresh();
    struct peer owner = {.size = 1, .id = {1}, .owner = 5}, thief = {.size = 1, .id = {3}, .owner = 6},
                again = {.size = 1, .id = {4}, .owner = 5};
    assert_int_equal(note(t, 7, &thief, 0), WORKER_KNOWN); /* even if it is there first */
    assert_int_equal(note(t, 7, &owner, 1), WORKER_KNOWN);
    assert_int_equal(t->count, 2);
    assert_int_equal(note(t, 7, &thief, 2), WORKER_KNOWN);
    assert_int_equal(worker_table_find(t, worker_handle(7, &owner))->seen_ms, 1);
    assert_int_equal(note(t, 7, &again, 3), WORKER_MOVED); /* the same key on a new connection */
    worker_table_forget(t, worker_handle(7, &thief));
    assert_non_null(worker_table_find(t, worker_handle(7, &owner)));
    free(t);
}

static void test_heartbeats_bring_rates(void **state)
{
    (void)state;
    struct worker_table *t = fresh();
    struct worker *w;
    struct msg m;
    msg_init(&m, MSG_PING, "run");
    m.worker = 7;
    m.step = 12;
    for (int i = 0; i < WORKER_RATES_MAX + 2; i++)
        assert_int_equal(msg_add_scalar(&m, (const char *[]){"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}[i], i),
                         0);
    assert_int_equal(worker_table_note(t, &m, &here, 0, &w), WORKER_KNOWN);
    assert_int_equal(w->rate_count, WORKER_RATES_MAX);
    assert_string_equal(w->rates[2].name, "c");
    m.step = 9;
    assert_int_equal(worker_table_note(t, &m, &here, 1, &w), WORKER_KNOWN);
    assert_int_equal(w->step, 12);
    free(t);
}

static void test_the_silent_are_taken_out(void **state)
{
    (void)state;
    struct worker_table *t = fresh();
    struct worker gone;
    note(t, 7, &here, 100);
    note(t, 8, &there, 101);
    assert_false(worker_table_take_silent(t, 99 + WORKERS_SILENCE_MS, &gone));
    assert_false(worker_table_take_silent(t, 50, &gone)); /* a clock that was read before the message came */
    assert_true(worker_table_take_silent(t, 100 + WORKERS_SILENCE_MS, &gone));
    assert_int_equal(gone.id, 7);
    assert_false(worker_table_take_silent(t, 100 + WORKERS_SILENCE_MS, &gone));
    assert_null(worker_table_find(t, 7));
    assert_non_null(worker_table_find(t, 8));
    free(t);
}

static void test_a_full_table_takes_no_more(void **state)
{
    (void)state;
    struct worker_table *t = fresh();
    for (uint64_t id = 1; id <= WORKERS_MAX; id++)
        assert_int_equal(note(t, id, &here, 0), WORKER_KNOWN);
    assert_int_equal(note(t, WORKERS_MAX + 1, &here, 0), WORKER_FULL);
    assert_int_equal(note(t, 1, &here, 0), WORKER_KNOWN);
    worker_table_forget(t, 1);
    assert_int_equal(note(t, WORKERS_MAX + 1, &here, 0), WORKER_KNOWN);
    free(t);
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
        cmocka_unit_test(test_an_empty_table_knows_nobody),
        cmocka_unit_test(test_a_worker_moves_with_its_messages),
        cmocka_unit_test(test_the_silent_are_taken_out),
        cmocka_unit_test(test_nobody_speaks_for_a_worker_of_another_key),
        cmocka_unit_test(test_heartbeats_bring_rates),
        cmocka_unit_test(test_a_full_table_takes_no_more),
        cmocka_unit_test(test_hosts_are_made_fit_for_logs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
