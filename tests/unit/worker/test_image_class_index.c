/* Classes by name: exact names first, then other Unicode forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "worker/data/class_index.h"

#define COMPOSED "Caf\xc3\xa9"
#define APART "Cafe\xcc\x81"

static void test_empty(void **state)
{
    (void)state;
    struct class_index x;
    uint32_t a, b;
    assert_int_equal(class_index_init(&x, NULL, 0), 0);
    assert_int_equal(class_index_twins(&x, 0, &a, &b), 0);
    class_index_fini(&x);
}

static void test_find(void **state)
{
    (void)state;
    char *names[] = {"Ant", COMPOSED, "\xff\xfe", "zebra"};
    struct class_index x;
    uint32_t a, b;
    assert_int_equal(class_index_init(&x, names, 4), 0);
    assert_int_equal(class_index_find(&x, "Ant"), 0);
    assert_int_equal(class_index_find(&x, COMPOSED), 1);
    assert_int_equal(class_index_find(&x, APART), 1);
    assert_int_equal(class_index_find(&x, "\xff\xfe"), 2); /* no UTF-8: byte by byte */
    assert_int_equal(class_index_find(&x, "zebra"), 3);
    assert_int_equal(class_index_find(&x, "ant"), UINT32_MAX);
    assert_int_equal(class_index_find(&x, ""), UINT32_MAX);
    assert_int_equal(class_index_find(&x, "zzz"), UINT32_MAX);
    assert_int_equal(class_index_twins(&x, 0, &a, &b), 0);
    class_index_fini(&x);
}

static void test_twins(void **state)
{
    (void)state;
    char *names[] = {APART, COMPOSED, "x"};
    struct class_index x;
    uint32_t a, b;
    assert_int_equal(class_index_init(&x, names, 3), 0);
    assert_int_equal(class_index_find(&x, APART), 0);
    assert_int_equal(class_index_find(&x, COMPOSED), 1);
    uint32_t next = class_index_twins(&x, 0, &a, &b);
    assert_true(next > 0 && a == 0 && b == 1);
    assert_int_equal(class_index_twins(&x, next, &a, &b), 0);
    class_index_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_twins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
