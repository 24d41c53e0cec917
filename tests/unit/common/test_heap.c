/* The heap template: order, ties, and every way of changing the first element. */
#include "common/heap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/rng.h"

enum { N = 257 };

struct item {
    uint32_t key, serial;
};

static bool before(struct item a, struct item b)
{
    return a.key < b.key;
}

HEAP_DEFINE(items, struct item, before)

static void check_order(const struct item *heap, size_t n)
{
    for (size_t i = 1; i < n; i++)
        assert_false(before(heap[i], heap[(i - 1) / 2]));
}

static void draw(struct item *x, size_t n, uint32_t keys)
{
    struct rng r;
    rng_open(&r, 1, RNG_JITTER, n, keys, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (struct item){rng_below(&r, keys), (uint32_t)i};
}

static void test_empty_and_one(void **state)
{
    struct item one = {5, 1};
    (void)state;
    items_sink(&one, 0, 0);
    items_rise(&one, 0);
    items_sink(&one, 1, 0);
    assert_int_equal(one.key, 5);
}

static void test_comes_out_in_order(void **state)
{
    struct item x[N], heap[N];
    (void)state;
    draw(x, N, 1000);
    for (size_t i = 0; i < N; i++) {
        heap[i] = x[i];
        items_rise(heap, i);
        check_order(heap, i + 1);
    }
    uint32_t last = 0;
    for (size_t n = N; n > 0;) {
        assert_true(heap[0].key >= last);
        last = heap[0].key;
        heap[0] = heap[--n];
        items_sink(heap, n, 0);
        check_order(heap, n);
    }
}

static void test_made_of_an_unordered_array(void **state)
{
    struct item heap[N];
    (void)state;
    draw(heap, N, 40);
    for (size_t i = N / 2; i-- > 0;)
        items_sink(heap, N, i);
    check_order(heap, N);
    heap[0] = (struct item){41, N};
    items_sink(heap, N, 0);
    check_order(heap, N);
}

/* Equal elements stay where they are: nothing is swapped without a reason. */
static void test_ties_do_not_move(void **state)
{
    struct item heap[7];
    (void)state;
    for (uint32_t i = 0; i < 7; i++) {
        heap[i] = (struct item){3, i};
        items_rise(heap, i);
    }
    items_sink(heap, 7, 0);
    for (uint32_t i = 0; i < 7; i++)
        assert_int_equal(heap[i].serial, i);
    heap[0].key = 4; /* of two equal children the left one rises */
    items_sink(heap, 7, 0);
    assert_int_equal(heap[0].serial, 1);
    assert_int_equal(heap[1].serial, 3);
    assert_int_equal(heap[3].serial, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_and_one),
        cmocka_unit_test(test_comes_out_in_order),
        cmocka_unit_test(test_made_of_an_unordered_array),
        cmocka_unit_test(test_ties_do_not_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
