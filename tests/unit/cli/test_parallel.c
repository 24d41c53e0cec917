/* Blocks on threads: every item once, no empty call, blocks of the asked size, one caller per thread number at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cli/parallel.h"

enum { ITEMS = 1000 };

struct visits {
    _Atomic int times[ITEMS];
    _Atomic int busy[PARALLEL_THREADS_MAX];
    _Atomic int wrong; /* calls that broke a promise */
    size_t n, block;
};

static void visit(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct visits *v = arg;
    if (begin % v->block != 0 || begin >= end || end > v->n || (end != v->n && end - begin != v->block))
        atomic_fetch_add(&v->wrong, 1);
    if (atomic_fetch_add(&v->busy[thread], 1) != 0)
        atomic_fetch_add(&v->wrong, 1);
    for (size_t i = begin; i < end; i++)
        atomic_fetch_add(&v->times[i], 1);
    atomic_fetch_sub(&v->busy[thread], 1);
}

static void check(size_t n, size_t block, unsigned threads)
{
    static struct visits v;
    v = (struct visits){.n = n, .block = block};
    parallel_for(n, block, threads, visit, &v);
    assert_int_equal(v.wrong, 0);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(v.times[i], i < n ? 1 : 0);
}

static void test_nothing(void **state)
{
    (void)state;
    check(0, 1, 1);
    check(0, 8, 4);
}

static void test_one_item(void **state)
{
    (void)state;
    check(1, 1, 1);
    check(1, 64, 3);
}

static void test_every_item_once(void **state)
{
    (void)state;
    check(ITEMS, 7, 1);
    check(ITEMS, 7, 3);
    check(ITEMS, ITEMS, 2);
    check(999, 10, PARALLEL_THREADS_MAX);
}

static void test_threads_suggested(void **state)
{
    (void)state;
    assert_in_range(parallel_threads(), 1, PARALLEL_THREADS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_one_item),
        cmocka_unit_test(test_every_item_once),
        cmocka_unit_test(test_threads_suggested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
