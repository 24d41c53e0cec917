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
#include "common/blas.h"
#include "proto/provenance.h"
#include "common/kernels.h"
#include "worker/numerics.h"

static uint64_t fingerprint(enum encoder_precision precision)
{
    uint64_t f = 0;
    assert_int_equal(numerics_fingerprint(precision, &f), 0);
    return f;
}

static void test_it_is_a_pure_function(void **state)
{
    (void)state;
    uint64_t f = fingerprint(PRECISION_FLOAT32);
    assert_true(f > 0 && f <= FINGERPRINT_MASK);
    assert_true(fingerprint(PRECISION_FLOAT32) == f);
}

/* The program once more, with those kernels: its fingerprint, of bf16 with option --bf16. */
static uint64_t run_with(enum kernels k, const char *option)
{
    char command[256], self[160];
    uint64_t f;
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    snprintf(command, sizeof command, "%s=%s %s %s", KERNELS_VARIABLE, kernels_name(k), self, option);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    assert_int_equal(fscanf(p, "%lx", &f), 1);
    assert_int_equal(pclose(p), 0);
    return f;
}

static uint64_t run_as(enum kernels k)
{
    return run_with(k, "--print");
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

/* A run in bf16 has another one than a run in float32, and AMX another one than AVX512_BF16. */
static void test_bf16_has_its_own(void **state)
{
    (void)state;
    uint64_t seen[KERNELS_COUNT + 1] = {fingerprint(PRECISION_FLOAT32)};
    int n = 1;
    for (int k = 0; k < KERNELS_COUNT; k++)
        if (kernels_multiply_bf16((enum kernels)k))
            seen[n++] = run_with((enum kernels)k, "--bf16");
    if (n == 1)
        skip();
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            assert_true(seen[i] != seen[j]);
}

/* In float32 AMX is AVX-512. */
static void test_amx_and_avx512_agree(void **state)
{
    (void)state;
    if (!kernels_possible(KERNELS_AMX))
        skip();
    assert_true(run_as(KERNELS_AMX) == run_as(KERNELS_AVX512));
}

static int print(enum encoder_precision precision)
{
    uint64_t f;
    if (numerics_fingerprint(precision, &f) != 0)
        return 1;
    printf("%lx\n", f);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_a_pure_function), cmocka_unit_test(test_other_kernels_have_another),
        cmocka_unit_test(test_avx2_and_avx512_agree), cmocka_unit_test(test_amx_and_avx512_agree),
        cmocka_unit_test(test_bf16_has_its_own),
    };
    compute_thread_init();
    blas_single_threaded();
    if (argc > 1 && strcmp(argv[1], "--print") == 0)
        return print(PRECISION_FLOAT32);
    if (argc > 1 && strcmp(argv[1], "--bf16") == 0)
        return print(PRECISION_BF16);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
