/* The tree: any arrival order and any partition into nodes gives the bytes of a recursive reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "common/error.h"
#include "common/reduce.h"
#include "common/rng.h"

/* Values are single floats of very different sizes, so that another order of additions gives other bits. */
struct tally {
    int live, adds;
};

static void *leaf(struct tally *t, float v)
{
    float *p = malloc(sizeof *p);
    *p = v;
    t->live++;
    return p;
}

static void *add(void *left, void *right, void *context)
{
    struct tally *t = context;
    *(float *)left += *(float *)right;
    free(right);
    t->live--;
    t->adds++;
    return left;
}

static void drop(void *value, void *context)
{
    struct tally *t = context;
    free(value);
    t->live--;
}

static float slot_value(uint32_t slot)
{
    struct rng r;
    rng_open(&r, 11, RNG_INIT, slot, 0, 0);
    float u = rng_uniform(&r) - 0.5f;
    return u * (float)(1u << rng_below(&r, 20));
}

/* The definition in reduce.h, with nothing clever. */
static float reference(uint32_t first, uint32_t width, uint32_t M)
{
    if (width == 1)
        return slot_value(first);
    uint32_t half = width / 2;
    float left = reference(first, half, M);
    return first + half < M ? left + reference(first + half, half, M) : left;
}

static float root_reference(uint32_t M)
{
    uint32_t width = 1;
    while (width < M)
        width *= 2;
    return reference(0, width, M);
}

static struct reduce *new_tree(uint32_t M, struct tally *t)
{
    struct reduce *r;
    assert_int_equal(reduce_new(M, (struct reduce_ops){add, drop, t}, &r), 0);
    return r;
}

static void assert_root(struct reduce *r, struct tally *t, uint32_t M)
{
    float *root = reduce_take(r), wanted = root_reference(M);
    assert_non_null(root);
    assert_memory_equal(root, &wanted, sizeof wanted);
    assert_int_equal(reduce_missing(r), M);
    drop(root, t);
    assert_int_equal(t->live, 0);
}

static void test_limits(void **state)
{
    (void)state;
    struct tally t = {0};
    struct reduce *r;
    assert_int_equal(reduce_new(0, (struct reduce_ops){add, drop, &t}, &r), ERR_RANGE);
    assert_null(r);
    assert_int_equal(reduce_new(UINT32_MAX, (struct reduce_ops){add, drop, &t}, &r), ERR_RANGE);
    r = new_tree(1 << 20, &t);
    reduce_free(&r);
    assert_null(r);
    reduce_free(&r);
}

static void test_one_slot(void **state)
{
    (void)state;
    struct tally t = {0};
    struct reduce *r = new_tree(1, &t);
    assert_null(reduce_take(r));
    assert_int_equal(reduce_put(r, 0, 1, leaf(&t, slot_value(0))), 0);
    assert_root(r, &t, 1);
    reduce_free(&r);
}

static void test_nodes_of_a_ragged_tree(void **state)
{
    (void)state;
    struct tally t = {0};
    struct reduce *r = new_tree(11, &t);
    static const uint32_t nodes[][2] = {{0, 1}, {10, 1}, {0, 2}, {8, 2}, {4, 4}, {0, 8}, {8, 3}, {0, 11}};
    static const uint32_t others[][2] = {{0, 0},  {1, 2}, {9, 2},          {2, 4},          {0, 3},
                                         {10, 2}, {8, 4}, {11, 1},         {0, 16},         {4, 7},
                                         {0, 10}, {4, 3}, {1, UINT32_MAX}, {UINT32_MAX, 1}, {UINT32_MAX, UINT32_MAX}};
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        assert_true(reduce_is_node(r, nodes[i][0], nodes[i][1]));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(reduce_is_node(r, others[i][0], others[i][1]));
        assert_int_equal(reduce_put(r, others[i][0], others[i][1], leaf(&t, 1)), ERR_RANGE);
        assert_int_equal(t.live, 0);
    }
    assert_int_equal(reduce_missing(r), 11);
    reduce_free(&r);
}

static void test_overlap_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    struct tally t = {0};
    struct reduce *r = new_tree(8, &t);
    for (uint32_t s = 0; s < 8; s++)
        if (s != 5)
            assert_int_equal(reduce_put(r, s, 1, leaf(&t, slot_value(s))), 0);
    assert_int_equal(reduce_put(r, 3, 1, leaf(&t, 9)), ERR_STATE);
    assert_int_equal(reduce_put(r, 4, 2, leaf(&t, 9)), ERR_STATE);
    assert_int_equal(reduce_put(r, 0, 8, leaf(&t, 9)), ERR_STATE);
    assert_int_equal(reduce_missing(r), 1);
    assert_true(reduce_has(r, 4));
    assert_false(reduce_has(r, 5));
    assert_false(reduce_has(r, 8));
    assert_null(reduce_take(r));
    assert_int_equal(reduce_put(r, 5, 1, leaf(&t, slot_value(5))), 0);
    assert_root(r, &t, 8);
    reduce_free(&r);
}

static void test_any_order_gives_the_same_bytes(void **state)
{
    (void)state;
    struct tally t = {0};
    struct rng rng;
    rng_open(&rng, 5, RNG_ORDER, 0, 0, 0);
    for (uint32_t M = 1; M <= 1024; M += M < 70 ? 1 : 53) {
        struct reduce *r = new_tree(M, &t);
        uint32_t order[1024];
        for (uint32_t i = 0; i < M; i++)
            order[i] = i;
        for (int repeat = 0; repeat < 3; repeat++) { /* the tree is reusable */
            t.adds = 0;
            rng_shuffle(&rng, order, M);
            for (uint32_t i = 0; i < M; i++)
                assert_int_equal(reduce_put(r, order[i], 1, leaf(&t, slot_value(order[i]))), 0);
            assert_int_equal(t.adds, M - 1);
            assert_root(r, &t, M);
        }
        reduce_free(&r);
    }
}

struct node {
    uint32_t slot, count, width;
};

/* A random partition into nodes: each is split or handed in whole. */
static void split(struct rng *rng, uint32_t slot, uint32_t width, uint32_t M, struct node *out, uint32_t *n)
{
    if (slot >= M)
        return;
    if (width > 1 && rng_below(rng, 3) > 0) {
        split(rng, slot, width / 2, M, out, n);
        split(rng, slot + width / 2, width / 2, M, out, n);
        return;
    }
    out[(*n)++] = (struct node){slot, width < M - slot ? width : M - slot, width};
}

static void test_any_partition_gives_the_same_bytes(void **state)
{
    (void)state;
    struct tally t = {0};
    struct rng rng;
    rng_open(&rng, 6, RNG_ORDER, 0, 0, 0);
    for (uint32_t M = 1; M <= 130; M++) {
        struct reduce *r = new_tree(M, &t);
        for (int repeat = 0; repeat < 8; repeat++) {
            struct node nodes[130];
            uint32_t order[130], n = 0;
            split(&rng, 0, 256, M, nodes, &n);
            for (uint32_t i = 0; i < n; i++)
                order[i] = i;
            rng_shuffle(&rng, order, n);
            for (uint32_t i = 0; i < n; i++) {
                const struct node *k = &nodes[order[i]];
                assert_true(reduce_is_node(r, k->slot, k->count));
                assert_int_equal(reduce_put(r, k->slot, k->count, leaf(&t, reference(k->slot, k->width, M))), 0);
            }
            assert_root(r, &t, M);
        }
        reduce_free(&r);
    }
}

static void test_reset_and_free_drop_what_is_held(void **state)
{
    (void)state;
    struct tally t = {0};
    struct reduce *r = new_tree(16, &t);
    for (uint32_t s = 0; s < 16; s += 2)
        reduce_put(r, s, 1, leaf(&t, 1));
    assert_int_equal(t.live, 8);
    reduce_reset(r);
    assert_int_equal(t.live, 0);
    assert_int_equal(reduce_missing(r), 16);
    assert_int_equal(reduce_put(r, 0, 2, leaf(&t, 1)), 0);
    reduce_free(&r);
    assert_int_equal(t.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_one_slot),
        cmocka_unit_test(test_nodes_of_a_ragged_tree),
        cmocka_unit_test(test_overlap_is_refused_and_changes_nothing),
        cmocka_unit_test(test_any_order_gives_the_same_bytes),
        cmocka_unit_test(test_any_partition_gives_the_same_bytes),
        cmocka_unit_test(test_reset_and_free_drop_what_is_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
