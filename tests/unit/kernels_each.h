/* Runs a group of cmocka tests once for each choice of float32 kernels that this machine can run; include after
 * cmocka.h.
 * */
#ifndef DECANT_TESTS_UNIT_KERNELS_EACH_H
#define DECANT_TESTS_UNIT_KERNELS_EACH_H

#include "common/kernels.h"

/* The number of failures. */
static inline int run_for_each_kernels(const struct CMUnitTest *tests, size_t n)
{
    int failures = 0;
    for (int k = 0; k < KERNELS_AMX; k++) /* amx is avx512 there */
        if (kernels_possible((enum kernels)k)) {
            failures += kernels_choose(kernels_name((enum kernels)k), NULL) != 0;
            failures += _cmocka_run_group_tests(kernels_name((enum kernels)k), tests, n, NULL, NULL);
        }
    return failures;
}

#endif
