/* The choice of kernels: by name, by environment, and that it is obeyed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/kernels.h"

/* Before anything has chosen: an impossible wish in the environment is no reason to stop. Must be the first test. */
static void test_first_use(void **state)
{
    (void)state;
    setenv(KERNELS_VARIABLE, "mmx", 1);
    enum kernels first = kernels_chosen();
    assert_true(kernels_possible(first));
    for (int k = (int)first + 1; k < KERNELS_COUNT; k++)
        assert_false(kernels_possible((enum kernels)k));
    unsetenv(KERNELS_VARIABLE);
}

static void test_by_name(void **state)
{
    (void)state;
    for (int k = 0; k < KERNELS_COUNT; k++) {
        struct error e = {0};
        int rc = kernels_choose(kernels_name((enum kernels)k), &e);
        assert_int_equal(rc, kernels_possible((enum kernels)k) ? 0 : ERR_CONFIG);
        if (rc == 0)
            assert_int_equal(kernels_chosen(), k);
    }
    assert_true(kernels_possible(KERNELS_PORTABLE));
}

static void test_unknown_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"AVX2", "avx", "avx2 ", "1", "portable,avx2"};
    assert_int_equal(kernels_choose("portable", NULL), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct error e = {0};
        assert_int_equal(kernels_choose(names[i], &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, names[i]));
        assert_non_null(strstr(e.text, "can use portable"));
        assert_int_equal(kernels_chosen(), KERNELS_PORTABLE); /* as it was */
    }
}

static void test_by_environment(void **state)
{
    (void)state;
    struct error e = {0};
    setenv(KERNELS_VARIABLE, "portable", 1);
    assert_int_equal(kernels_from_environment(&e), 0);
    assert_int_equal(kernels_chosen(), KERNELS_PORTABLE);
    setenv(KERNELS_VARIABLE, "mmx", 1);
    assert_int_equal(kernels_from_environment(&e), ERR_CONFIG);
    assert_non_null(strstr(e.text, KERNELS_VARIABLE "=mmx"));
    setenv(KERNELS_VARIABLE, "", 1); /* as if unset */
    assert_int_equal(kernels_from_environment(&e), 0);
    unsetenv(KERNELS_VARIABLE);
}

/* One product and one sum: FMA rounds once, which shows where the product's rounding error is all that is left. */
STATIC_KERNEL(float, residue, (volatile float *x), (x))
{
    float a = x[0], b = x[1];
    x[2] = a * b; /* through memory, which rounds it */
    float c = x[0], d = x[1];
    return c * d - x[2];
}

static void test_choice_is_obeyed(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* built with -O1, which fuses no product with a sum */
#endif
    volatile float x[3] = {1 + 0x1p-12f, 1 + 0x1p-12f}; /* the square needs 25 bits */
    for (int k = 0; k < KERNELS_COUNT; k++)
        if (kernels_choose(kernels_name((enum kernels)k), NULL) == 0)
            assert_true((residue(x) != 0) == (k != KERNELS_PORTABLE));
}

static void test_bf16(void **state)
{
    (void)state;
    assert_false(kernels_multiply_bf16(KERNELS_PORTABLE));
    assert_false(kernels_multiply_bf16(KERNELS_AVX2));
    assert_true(kernels_multiply_bf16(KERNELS_AMX) == kernels_possible(KERNELS_AMX));
    assert_false(kernels_multiply_bf16(KERNELS_AVX512) && !kernels_possible(KERNELS_AVX512));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16),           cmocka_unit_test(test_first_use),
        cmocka_unit_test(test_by_name),        cmocka_unit_test(test_unknown_is_refused),
        cmocka_unit_test(test_by_environment), cmocka_unit_test(test_choice_is_obeyed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
