/* The fingerprint of the arithmetic: the same wherever it is computed alike, another under other kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cblas.h>
#include <cmocka.h>
#include "common/vecmath.h"
#include "proto/provenance.h"
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

/* The program once more, with OPENBLAS_CORETYPE set: which kernels it took, and its fingerprint. */
static void run_as(const char *core_type, char *core, uint64_t *out)
{
    char command[256], self[160];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    snprintf(command, sizeof command, "env -u OPENBLAS_L2_SIZE OPENBLAS_CORETYPE=%s %s --print", core_type, self);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%31s %lx", core, out), 2);
    assert_int_equal(pclose(f), 0);
}

static void test_other_blas_kernels_have_another(void **state)
{
    (void)state;
    char cores[2][32];
    uint64_t f[2], again;
    /* any x86-64 that Debian's OpenBLAS runs on has both */
    run_as("Prescott", cores[0], &f[0]);
    run_as("Nehalem", cores[1], &f[1]);
    assert_string_not_equal(cores[0], cores[1]);
    assert_true(f[0] != f[1]);
    run_as("Prescott", cores[0], &again);
    assert_true(again == f[0]);
}

static int print(void)
{
    uint64_t f;
    if (numerics_fingerprint(&f) != 0)
        return 1;
    printf("%s %lx\n", openblas_get_corename(), f);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_a_pure_function),
        cmocka_unit_test(test_other_blas_kernels_have_another),
    };
    compute_thread_init();
    blas_single_threaded();
    if (argc > 1 && strcmp(argv[1], "--print") == 0)
        return print();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
