/* The fingerprint of the arithmetic: the same wherever it is computed alike, another under other kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/vecmath.h"
#include "proto/provenance.h"
#include "common/kernels.h"
#include "worker/numerics.h"

static uint64_t fingerprint(void)
{
    uint64_t f = 0;
    assert_int_equal(numerics_fingerprint(&f), 0);
    return f;
}

static void test_it_is_a_pure_function(void **state)
{
    (void)state;
    uint64_t f = fingerprint();
    assert_true(f > 0 && f <= FINGERPRINT_MASK);
    assert_true(fingerprint() == f);
}

/* The program once more, with those kernels: its fingerprint. */
static uint64_t run_as(enum kernels k)
{
    char command[256], self[160];
    uint64_t f;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    snprintf(command, sizeof command, "%s=%s %s --print", KERNELS_VARIABLE, kernels_name(k), self);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%lx", &f), 1);
    assert_int_equal(pclose(p), 0);
    return f;
}

/* Builds for the sanitizers are of -O1, at which the compiler fuses nothing. */
#ifdef __SANITIZE_ADDRESS__
static const bool fused = false;
#else
static const bool fused = true;
#endif

/* The fused products of AVX2 round once where the portable ones round twice. */
static void test_other_kernels_have_another(void **state)
{
    (void)state;
    if (!fused || !kernels_possible(KERNELS_AVX2))
        skip();
    uint64_t portable = run_as(KERNELS_PORTABLE);
    assert_true(portable == run_as(KERNELS_PORTABLE));
    assert_true(portable != run_as(KERNELS_AVX2));
}

/* Sums are added up in one order, whatever the width. */
static void test_avx2_and_avx512_agree(void **state)
{
    (void)state;
    if (!kernels_possible(KERNELS_AVX512))
        skip();
    assert_true(run_as(KERNELS_AVX2) == run_as(KERNELS_AVX512));
}

static int print(void)
{
    uint64_t f;
    if (numerics_fingerprint(&f) != 0)
        return 1;
    printf("%lx\n", f);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_a_pure_function),
        cmocka_unit_test(test_other_kernels_have_another),
        cmocka_unit_test(test_avx2_and_avx512_agree),
    };
    compute_thread_init();
    blas_single_threaded();
    if (argc > 1 && strcmp(argv[1], "--print") == 0)
        return print();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
