/* The fingerprint of this server's arithmetic is a pure function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/kernels.h"
#include "proto/provenance.h"
#include "server/prototype/prototype_numerics.h"

static void test_it_is_a_pure_function(void **state)
{
    (void)state;
    uint64_t first = 0, second = 0, full = 0;
    assert_int_equal(prototype_numerics(COVARIANCE_DIAGONAL, &first), 0);
    assert_int_equal(prototype_numerics(COVARIANCE_VMF, &second), 0);
    assert_true(first == second && first > 0 && first <= FINGERPRINT_MASK);
    assert_int_equal(prototype_numerics(COVARIANCE_FULL, &full), 0); /* LAPACK is in it */
    assert_int_equal(prototype_numerics(COVARIANCE_FULL, &second), 0);
    assert_true(full == second && full != first && full > 0 && full <= FINGERPRINT_MASK);
}

/* A server may move to a machine with wider registers: both round once where a product is added. */
static void test_avx2_and_avx512_agree(void **state)
{
    (void)state;
    const enum kernels before = kernels_chosen();
    uint64_t narrow = 0, wide = 0;
    if (!kernels_possible(KERNELS_AVX512))
        skip();
    for (int c = COVARIANCE_SPHERICAL; c <= (int)COVARIANCE_TIED; c++) {
        assert_int_equal(kernels_choose("avx2", NULL), 0);
        assert_int_equal(prototype_numerics((enum covariance)c, &narrow), 0);
        assert_int_equal(kernels_choose("avx512", NULL), 0);
        assert_int_equal(prototype_numerics((enum covariance)c, &wide), 0);
        assert_true(narrow == wide);
    }
    kernels_choose(kernels_name(before), NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_it_is_a_pure_function),
                                       cmocka_unit_test(test_avx2_and_avx512_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
