/* Diagnostics of hand-made mixtures, whose answers can be read off. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include "common/error.h"
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

static struct mixture *small_mixture(void)
{
    const struct mixture_options o = {.K = 50,
                                      .D = 3,
                                      .covariance = COVARIANCE_DIAGONAL,
                                      .forgetting = 0.9,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 1,
                                      .usage_momentum = 0.9,
                                      .reseed_max = 1};
    struct mixture *m;
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 3);
    return m;
}

static void touch(struct mixture *m, uint32_t k)
{
    float n = 2, s1[3] = {1, 0.5f, 0.1f}, s2[3] = {1, 1, 1};
    struct stats_rows s = {.K = 50, .D = 3, .squares = 3, .R = 1, .index = &k, .n = &n, .s1 = s1, .s2 = s2, .count = 2};
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
}

static void assert_is_of(const struct diagnostics_input *in, const struct mixture *m)
{
    struct diagnostics_input want;
    assert_int_equal(diagnostics_input_init(&want, m), 0);
    assert_true(diagnostics_input_follow(&want, m, 5, m->options.K));
    assert_int_equal(in->version, m->view->version);
    assert_memory_equal(in->prototypes, want.prototypes, 50 * 3 * sizeof(float));
    assert_memory_equal(in->usage, want.usage, 50 * sizeof(double));
    assert_true(in->active == want.active);
    diagnostics_input_fini(&want);
}

static uint32_t held(const struct diagnostics_input *in, const struct mixture *m)
{
    uint32_t count = 0;
    for (uint32_t k = 0; k < in->K; k++)
        count += in->held[k] == m->updated_step[k] + 1;
    return count;
}

/* A copy in pieces, while the mixture goes on, is of one version in the end; a piece has as many rows as it may, and
 * later only what changed is copied. */
static void test_copy_in_pieces(void **state)
{
    (void)state;
    struct mixture *m = small_mixture();
    struct diagnostics_input in;
    assert_int_equal(diagnostics_input_init(&in, m), 0);
    for (uint32_t turn = 1; turn <= 3; turn++) {
        assert_false(diagnostics_input_follow(&in, m, 5, 16));
        assert_int_equal(held(&in, m), 16 * turn - (turn > 1));
        touch(m, 0); /* copied already: once more */
    }
    assert_true(diagnostics_input_follow(&in, m, 5, 16));
    assert_is_of(&in, m);
    touch(m, 7);
    touch(m, 49);
    assert_false(diagnostics_input_follow(&in, m, 5, 1));
    assert_true(diagnostics_input_follow(&in, m, 5, 1));
    assert_is_of(&in, m);
    in.prototypes[0] = 9; /* of a line of versions that is no more */
    diagnostics_input_forget(&in);
    assert_false(diagnostics_input_follow(&in, m, 5, 49));
    assert_true(diagnostics_input_follow(&in, m, 5, 49));
    assert_is_of(&in, m);
    diagnostics_input_fini(&in);
    mixture_free(&m);
}

/* Where every version moves every row, no piece is larger for it, and a pass comes about all the same. */
static void test_pieces_that_cannot_follow(void **state)
{
    (void)state;
    struct mixture *m = small_mixture();
    struct diagnostics_input in;
    uint32_t turns = 0, seen = 0;
    bool done = false;
    assert_int_equal(diagnostics_input_init(&in, m), 0);
    for (; !done && turns < 100; turns++) {
        for (uint32_t k = 0; k < 50; k++)
            touch(m, k);
        done = diagnostics_input_follow(&in, m, 5, 16);
        assert_int_equal(held(&in, m), 16);
    }
    assert_int_equal(turns, 3 * 50 / 16 + 1);
    assert_int_equal(in.version, m->view->version);
    for (uint32_t k = 0; k < 50; k++)
        seen += in.held[k] > 0;
    assert_int_equal(seen, 50);
    assert_false(diagnostics_input_follow(&in, m, 5, 16)); /* the next one begins anew */
    diagnostics_input_fini(&in);
    mixture_free(&m);
}

static bool always(const void *arg)
{
    return arg != NULL;
}

static void test_pass_can_be_stopped(void **state)
{
    (void)state;
    struct mixture *m = small_mixture();
    struct diagnostics_input in;
    struct diagnostics *d;
    assert_int_equal(diagnostics_input_init(&in, m), 0);
    assert_true(diagnostics_input_follow(&in, m, 5, 50));
    in.stop = always;
    in.stop_arg = m;
    assert_int_equal(diagnostics_run(&in, &d), ERR_CLOSED);
    assert_null(d);
    diagnostics_input_fini(&in);
    mixture_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row_has_rank_one),
        cmocka_unit_test(test_rank_counts_even_directions),
        cmocka_unit_test(test_rank_over_several_blocks),
        cmocka_unit_test(test_cover_neighbours_and_usage),
        cmocka_unit_test(test_copy_in_pieces),
        cmocka_unit_test(test_pass_can_be_stopped),
        cmocka_unit_test(test_pieces_that_cannot_follow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
