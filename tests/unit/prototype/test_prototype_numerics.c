/* The fingerprint of this server's arithmetic is a pure function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_it_is_a_pure_function)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
