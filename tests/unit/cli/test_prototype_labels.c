/* Prototypes as clusters and as a classifier, by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cli/prototype_labels.h"
#include "common/blas.h"

static void test_by_hand(void **state)
{
    (void)state;
    /* prototype 0: labels 2, 2, 1; 1: 0 and 1, of which the lower wins; 2: nothing; 3: 1 */
    const uint32_t nearest[6] = {0, 1, 0, 3, 1, 0};
    const uint16_t labels[6] = {2, 1, 1, 1, 0, 2};
    struct prototype_labels p;
    assert_int_equal(prototype_labels_of(nearest, labels, 6, 4, &p), 0);
    const int32_t want[4] = {2, 0, -1, 1};
    assert_memory_equal(p.label, want, sizeof want);
    assert_true(fabs(p.purity - 4.0 / 6) < 1e-12);
    double by_prototype = -(0.5 * log(1.0 / 2) + 1.0 / 3 * log(1.0 / 3) + 1.0 / 6 * log(1.0 / 6));
    double by_label = -(1.0 / 6 * log(1.0 / 6) + 0.5 * log(1.0 / 2) + 1.0 / 3 * log(1.0 / 3));
    double joint = -(1.0 / 3 * log(1.0 / 3) + 4 * (1.0 / 6) * log(1.0 / 6));
    assert_true(fabs(p.nmi - 2 * (by_prototype + by_label - joint) / (by_prototype + by_label)) < 1e-12);
    prototype_labels_fini(&p);
    assert_null(p.label);
}

static void test_bounds(void **state)
{
    (void)state;
    const uint32_t nearest[4] = {0, 0, 1, 1}, one[4] = {0};
    const uint16_t same[4] = {5, 5, 3, 3}, across[4] = {0, 1, 0, 1}, equal[4] = {0};
    struct prototype_labels p;
    assert_int_equal(prototype_labels_of(nearest, same, 4, 2, &p), 0);
    assert_true(p.purity == 1 && fabs(p.nmi - 1) < 1e-12);
    prototype_labels_fini(&p);
    assert_int_equal(prototype_labels_of(nearest, across, 4, 2, &p), 0);
    assert_true(p.purity == 0.5 && fabs(p.nmi) < 1e-12);
    prototype_labels_fini(&p);
    assert_int_equal(prototype_labels_of(one, equal, 4, 1, &p), 0);
    assert_true(p.purity == 1 && p.nmi == 1);
    prototype_labels_fini(&p);
}

/* The second query is nearest to prototype 1, which no bank image chose: the nearest with a label decides. */
static void test_classifier(void **state)
{
    (void)state;
    const float prototypes[6] = {1, 0, 0.8F, 0.6F, 0, 1}, z[6] = {1, 0, 0.8F, 0.6F, -0.6F, 0.8F};
    const uint32_t nearest[3] = {0, 2, 2};
    const uint16_t labels[3] = {7, 4, 4};
    uint16_t predicted[3];
    struct prototype_labels p;
    assert_int_equal(prototype_labels_of(nearest, labels, 3, 3, &p), 0);
    assert_int_equal(prototype_labels_classify(&p, prototypes, 2, z, 3, 2, predicted), 0);
    assert_int_equal(predicted[0], 7);
    assert_int_equal(predicted[1], 7);
    assert_int_equal(predicted[2], 4);
    prototype_labels_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_classifier),
    };
    blas_single_threaded();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
