/* Where arrays part, and how far, in every type. */
#include <math.h>
#include "cli/tensor_compare.h"
#include "tests/unit/cli/checkpoint_rig.h"

static void test_equal(void **state)
{
    (void)state;
    const float a[4] = {1, NAN, -0.0F, 4};
    const struct tensor_view t = rig_view("t", DTYPE_F32, 2, 2, 2, a), empty = rig_view("t", DTYPE_F32, 1, 0, 0, a);
    struct tensor_difference d;
    tensor_compare(&t, &t, &d);
    assert_int_equal(d.differing, 0);
    assert_int_equal(d.elements, 4);
    tensor_compare(&empty, &empty, &d);
    assert_int_equal(d.elements, 0);
}

static void test_first_and_ulp(void **state)
{
    (void)state;
    const float a[6] = {1, 2, 3, 4, 5, 6};
    float b[6] = {1, 2, 3, 4, 5, 6};
    b[3] = nextafterf(4, 5);
    b[5] = nextafterf(nextafterf(6, 7), 7);
    const struct tensor_view x = rig_view("t", DTYPE_F32, 2, 2, 3, a), y = rig_view("t", DTYPE_F32, 2, 2, 3, b);
    struct tensor_difference d;
    tensor_compare(&x, &y, &d);
    assert_true(d.differing == 2 && d.first == 3 && d.index[0] == 1 && d.index[1] == 0);
    assert_true(d.ulp == 1 && d.ulp_max == 2);
    assert_string_equal(d.a, "4");
    assert_string_equal(d.b, "4.00000048");
}

static void test_across_zero(void **state)
{
    (void)state;
    const double a[2] = {0.0, 5e-324}, b[2] = {-0.0, -5e-324};
    const struct tensor_view x = rig_view("t", DTYPE_F64, 1, 2, 0, a), y = rig_view("t", DTYPE_F64, 1, 2, 0, b);
    struct tensor_difference d;
    tensor_compare(&x, &y, &d);
    assert_true(d.differing == 2 && d.first == 0 && d.ulp == 0 && d.ulp_max == 2);
    assert_string_equal(d.b, "-0");
}

static void test_farthest(void **state)
{
    (void)state;
    const double a[1] = {-NAN}, b[1] = {NAN};
    const struct tensor_view x = rig_view("t", DTYPE_F64, 1, 1, 0, a), y = rig_view("t", DTYPE_F64, 1, 1, 0, b);
    struct tensor_difference d;
    tensor_compare(&x, &y, &d);
    assert_true(d.ulp == 2 * 0x7ff8000000000000ULL);
}

static void test_integers(void **state)
{
    (void)state;
    const uint32_t a[3] = {7, 9, 0}, b[3] = {7, 4, UINT32_MAX};
    const struct tensor_view x = rig_view("t", DTYPE_U32, 1, 3, 0, a), y = rig_view("t", DTYPE_U32, 1, 3, 0, b);
    struct tensor_difference d;
    tensor_compare(&x, &y, &d);
    assert_true(d.differing == 2 && d.first == 1 && d.ulp == 5 && d.ulp_max == UINT32_MAX);
    assert_string_equal(d.a, "9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),    cmocka_unit_test(test_first_and_ulp), cmocka_unit_test(test_across_zero),
        cmocka_unit_test(test_farthest), cmocka_unit_test(test_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
