/* log C_D(kappa) against values of 60 digits (tests/golden/vmf.json), and the two ways between kappa and R. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include "server/prototype/vmf.h"

static double column(const json_t *row, size_t i)
{
    return json_number_value(json_array_get(row, i));
}

static void test_normaliser(void **state)
{
    (void)state;
    json_t *f = json_load_file("tests/golden/vmf.json", 0, NULL);
    const json_t *rows = json_object_get(f, "rows");
    assert_true(json_array_size(rows) > 100);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        double want = column(row, 2), got = vmf_log_normaliser((uint32_t)column(row, 0), column(row, 1));
        if (!(fabs(got - want) <= 1e-9 + 1e-14 * fabs(want)))
            fail_msg("D = %g, kappa = %g: %.15g, expected %.15g", column(row, 0), column(row, 1), got, want);
    }
    json_decref(f);
}

static void test_concentration_and_back(void **state)
{
    (void)state;
    assert_true(vmf_concentration(8, 0) == 0);
    assert_true(fabs(vmf_concentration(3, 0.5) - 0.5 * 2.75 / 0.75) < 1e-15);
    assert_true(isinf(vmf_concentration(8, 1)) && isinf(vmf_concentration(8, 1.0000001)));
    for (uint32_t D = 2; D <= 4096; D *= 2)
        for (double R = 0.01; R < 1; R += 0.07)
            assert_true(fabs(vmf_resultant(D, vmf_concentration(D, R)) - R) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normaliser),
        cmocka_unit_test(test_concentration_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
