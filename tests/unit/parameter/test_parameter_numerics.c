/* The fingerprint of this server's arithmetic is a pure function. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "proto/provenance.h"
#include "server/parameter/parameter_numerics.h"

static void test_it_is_a_pure_function(void **state)
{
    (void)state;
    uint64_t first = 0, second = 0;
    assert_int_equal(parameter_numerics(&first), 0);
    assert_int_equal(parameter_numerics(&second), 0);
    assert_true(first == second && first > 0 && first <= FINGERPRINT_MASK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_it_is_a_pure_function)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
