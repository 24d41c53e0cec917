/* Which kernels OpenBLAS is told to run, and that a program which was told finds nothing more to mend. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/blas.h"

static void test_old_kernels_are_behind(void **state)
{
    (void)state;
    static const char *const old[] = {"Prescott", "Core2", "Nehalem", "Barcelona", "unknown"};
    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++) {
        assert_string_equal(blas_better_kernels(old[i], KERNELS_AMX), "SkylakeX");
        assert_string_equal(blas_better_kernels(old[i], KERNELS_AVX512), "SkylakeX");
        assert_string_equal(blas_better_kernels(old[i], KERNELS_AVX2), "Haswell");
        assert_null(blas_better_kernels(old[i], KERNELS_PORTABLE));
    }
}

/* Also kernels for AVX2 where AVX-512 is possible: OpenBLAS knew the processor, or somebody chose. */
static void test_new_kernels_stay(void **state)
{
    (void)state;
    static const char *const fit[] = {"Haswell",    "HASWELL",        "Zen",           "SkylakeX",
                                      "Cooperlake", "SapphireRapids", "Sapphirerapids"};
    for (size_t i = 0; i < sizeof fit / sizeof fit[0]; i++)
        for (int k = 0; k < KERNELS_COUNT; k++)
            assert_null(blas_better_kernels(fit[i], (enum kernels)k));
}

/* What we tell it is what it then calls its kernels. */
static void test_names_are_settled(void **state)
{
    (void)state;
    assert_null(blas_better_kernels(blas_better_kernels("Prescott", KERNELS_AVX512), KERNELS_AVX512));
    assert_null(blas_better_kernels(blas_better_kernels("Prescott", KERNELS_AVX2), KERNELS_AVX2));
}

/* A choice of the user's stands, however slow: the test would start anew, for ever, otherwise. */
static void test_a_choice_stands(void **state)
{
    (void)state;
    char name[] = "nobody", *argv[] = {name, NULL};
    setenv(BLAS_VARIABLE, "Prescott", 1);
    blas_restart_if_behind(argv);
    assert_string_equal(getenv(BLAS_VARIABLE), "Prescott");
    unsetenv(BLAS_VARIABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_old_kernels_are_behind),
        cmocka_unit_test(test_new_kernels_stay),
        cmocka_unit_test(test_names_are_settled),
        cmocka_unit_test(test_a_choice_stands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
