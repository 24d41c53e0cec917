/* Accuracy over queries, over classes and over thirds of the classes, by hand. */
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
    struct accuracy a = accuracy_of(&label, &label, 1, 4, NULL);
    assert_true(a.percent == 100 && a.macro == 100);
    a = accuracy_of(&label, &wrong, 1, 4, NULL);
    assert_true(a.percent == 0 && a.macro == 0);
}

/* Three of class 0, two of them right, one of class 1, right; nobody of class 2. */
static void test_classes_count_alike(void **state)
{
    (void)state;
    const uint16_t labels[4] = {0, 0, 0, 1}, predicted[4] = {0, 2, 0, 1};
    struct accuracy a = accuracy_of(labels, predicted, 4, 3, NULL);
    assert_true(a.percent == 75);
    assert_true(fabs(a.macro - 100 * (2.0 / 3 + 1) / 2) < 1e-12);
    assert_true(a.third[THIRD_HEAD] == a.macro && isnan(a.third[THIRD_MEDIUM]) && isnan(a.third[THIRD_TAIL]));
}

/* Five classes with 1, 4, 2, 4 and 0 images: by size 1, 3, 2, 0, 4, of which two, two and one are a third. */
static void test_thirds_go_by_size(void **state)
{
    (void)state;
    const uint16_t labels[11] = {1, 1, 3, 3, 0, 3, 2, 1, 1, 2, 3};
    uint8_t third[5];
    assert_int_equal(accuracy_thirds(labels, 11, 5, third), 0);
    const uint8_t want[5] = {THIRD_MEDIUM, THIRD_HEAD, THIRD_MEDIUM, THIRD_HEAD, THIRD_TAIL};
    assert_memory_equal(third, want, sizeof want);
    assert_int_equal(accuracy_thirds(labels, 4, 2 + 2, third), 0);
    assert_int_equal(third[1], THIRD_HEAD);
    const uint16_t two[3] = {1, 1, 0};
    assert_int_equal(accuracy_thirds(two, 3, 2, third), 0);
    assert_true(third[0] == THIRD_HEAD && third[1] == THIRD_HEAD);
}

static void test_accuracy_of_thirds(void **state)
{
    (void)state;
    const uint8_t third[4] = {THIRD_TAIL, THIRD_HEAD, THIRD_HEAD, THIRD_MEDIUM};
    const uint16_t labels[7] = {0, 0, 1, 1, 1, 1, 2}, predicted[7] = {0, 1, 1, 1, 1, 0, 2};
    struct accuracy a = accuracy_of(labels, predicted, 7, 4, third);
    assert_true(fabs(a.third[THIRD_HEAD] - 100 * (0.75 + 1) / 2) < 1e-12);
    assert_true(isnan(a.third[THIRD_MEDIUM])); /* class 3 has no query */
    assert_true(a.third[THIRD_TAIL] == 50);
    assert_true(fabs(a.macro - 100 * (0.5 + 0.75 + 1) / 3) < 1e-12);
    a = accuracy_none();
    assert_true(isnan(a.percent) && isnan(a.macro) && isnan(a.third[THIRD_TAIL]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_classes_count_alike),
        cmocka_unit_test(test_thirds_go_by_size),
        cmocka_unit_test(test_accuracy_of_thirds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
