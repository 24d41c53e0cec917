/* Accuracy over queries and over classes, by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cli/accuracy.h"

static void test_one(void **state)
{
    (void)state;
    const uint16_t label = 3, wrong = 2;
    struct accuracy a = accuracy_of(&label, &label, 1, 4);
    assert_true(a.percent == 100 && a.macro == 100);
    a = accuracy_of(&label, &wrong, 1, 4);
    assert_true(a.percent == 0 && a.macro == 0);
}

/* Three of class 0, two of them right, one of class 1, right; nobody of class 2. */
static void test_classes_count_alike(void **state)
{
    (void)state;
    const uint16_t labels[4] = {0, 0, 0, 1}, predicted[4] = {0, 2, 0, 1};
    struct accuracy a = accuracy_of(labels, predicted, 4, 3);
    assert_true(a.percent == 75);
    assert_true(fabs(a.macro - 100 * (2.0 / 3 + 1) / 2) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_classes_count_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
