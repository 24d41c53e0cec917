/* Diagnostics of hand-made mixtures, whose answers can be read off. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include "server/prototype/diagnostics.h"

static void close_to(double got, double want)
{
    if (fabs(got - want) > 1e-5)
        fail_msg("got %.9g, expected %.9g", got, want);
}

static void test_one_row_has_rank_one(void **state)
{
    (void)state;
    float x[3] = {1, 0, 0};
    double rank;
    assert_int_equal(effective_rank(x, 1, 3, &rank), 0);
    close_to(rank, 1);
}

/* +-e_d for d < r spread evenly over r directions. */
static void test_rank_counts_even_directions(void **state)
{
    (void)state;
    enum { D = 8 };
    for (uint32_t r = 1; r <= D; r++) {
        float x[2 * D * D] = {0};
        double rank;
        for (uint32_t d = 0; d < r; d++) {
            x[2 * d * D + d] = 1;
            x[(2 * d + 1) * D + d] = -1;
        }
        assert_int_equal(effective_rank(x, 2 * r, D, &rank), 0);
        close_to(rank, r);
    }
}

static void test_rank_over_several_blocks(void **state)
{
    (void)state;
    enum { K = 1000, D = 2 };
    float x[K * D];
    double rank;
    for (int k = 0; k < K; k++) {
        x[2 * k] = k % 2 ? 1 : -1;
        x[2 * k + 1] = 0.5f; /* constant: no direction of its own */
    }
    assert_int_equal(effective_rank(x, K, D, &rank), 0);
    close_to(rank, 1);
}

/* Four prototypes: two equal, one orthogonal, one opposite. */
static void test_cover_neighbours_and_usage(void **state)
{
    (void)state;
    float prototypes[4 * 2] = {1, 0, 1, 0, 0, 1, -1, 0};
    double usage[4] = {0.5, 0.5, 0, 0};
    struct diagnostics_input in = {
        .version = 9, .K = 4, .D = 2, .prototypes = prototypes, .usage = usage, .active = 50};
    struct diagnostics *d;
    assert_int_equal(diagnostics_run(&in, &d), 0);
    assert_int_equal(d->version, 9);
    for (size_t i = 0; i < DIAGNOSTICS_EPS; i++)
        close_to(d->unique[i], 75);
    close_to(d->perplexity, 2);
    close_to(d->active, 50);
    assert_int_equal(d->nearest[0], 1);
    assert_int_equal(d->nearest[1], 0);
    close_to((double)d->cosine[0], 1);
    close_to((double)d->cosine[2], 0);
    assert_int_equal(d->nearest[3], 2);
    diagnostics_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row_has_rank_one),
        cmocka_unit_test(test_rank_counts_even_directions),
        cmocka_unit_test(test_rank_over_several_blocks),
        cmocka_unit_test(test_cover_neighbours_and_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
