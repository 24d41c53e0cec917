/* The pool: vectors come back warm, and outlive it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "common/float_pool.h"

enum { FLOATS = 33 };

static struct float_pool *fresh(void)
{
    struct float_pool *p = NULL;
    assert_int_equal(float_pool_new(FLOATS, &p), 0);
    return p;
}

static void test_an_unused_pool_is_freed(void **state)
{
    (void)state;
    struct float_pool *p = fresh();
    float_pool_free(&p);
    assert_null(p);
    float_pool_free(&p);
}

static void test_vectors_are_aligned_and_reused(void **state)
{
    (void)state;
    struct float_pool *p = fresh();
    struct buf *a = float_pool_take(p), *b = float_pool_take(p);
    assert_int_equal(a->size, FLOATS * sizeof(float));
    assert_int_equal((uintptr_t)a->data % 64, 0);
    assert_ptr_not_equal(a->data, b->data);
    const uint8_t *home = a->data;
    struct buf *again = buf_ref(a);
    buf_unref(&a);
    struct buf *c = float_pool_take(p);
    assert_ptr_not_equal(c->data, home);
    buf_unref(&again);
    struct buf *d = float_pool_take(p);
    assert_ptr_equal(d->data, home);
    buf_unref(&b);
    buf_unref(&c);
    buf_unref(&d);
    float_pool_free(&p);
}

/* More vectors than it keeps, some of them coming home after it was freed; the address sanitizer watches. */
static void test_vectors_outlive_the_pool(void **state)
{
    (void)state;
    struct float_pool *p = fresh();
    struct buf *b[2 * FLOAT_POOL_IDLE_MAX];
    for (int i = 0; i < 2 * FLOAT_POOL_IDLE_MAX; i++)
        b[i] = float_pool_take(p);
    for (int i = 0; i < 2 * FLOAT_POOL_IDLE_MAX - 1; i++)
        buf_unref(&b[i]);
    float_pool_free(&p);
    memset(b[2 * FLOAT_POOL_IDLE_MAX - 1]->data, 1, FLOATS * sizeof(float));
    buf_unref(&b[2 * FLOAT_POOL_IDLE_MAX - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_unused_pool_is_freed),
        cmocka_unit_test(test_vectors_are_aligned_and_reused),
        cmocka_unit_test(test_vectors_outlive_the_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
