/* Prices against their formula, and what they are for: even use of components that are not equally attractive. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "common/rng.h"
#include "server/prototype/mixture.h"
#include "server/prototype/prices.h"

#define assert_near(a, b) assert_true(fabs((a) - (b)) <= 1e-12)

static double mean_exp(const double *price, uint32_t K)
{
    double sum = 0;
    for (uint32_t k = 0; k < K; k++)
        sum += exp(price[k]);
    return sum / K;
}

static void test_even_use_moves_nothing(void **state)
{
    (void)state;
    double price[4] = {0}, usage[4] = {0.25, 0.25, 0.25, 0.25};
    prices_move(price, usage, 4, 0.5, 1);
    for (int k = 0; k < 4; k++)
        assert_near(price[k], 0);
    assert_near(prices_spread(price, 4), 0);
}

/* Differences follow the formula: half of what is wanted, no more than a c either way, nothing used included. */
static void test_a_step_is_the_formula(void **state)
{
    (void)state;
    double price[4] = {0.1, 0.2, -0.3, 0}, before[4], usage[4] = {0.125, 0.875, 0, 0};
    static const double moved[4] = {0.5 * 0.6931471805599453, -0.5, 0.5, 0.5};
    memcpy(before, price, sizeof price);
    prices_move(price, usage, 4, 0.5, 1);
    for (int k = 1; k < 4; k++)
        assert_near(price[k] - price[0], before[k] + moved[k] - before[0] - moved[0]);
    assert_near(mean_exp(price, 4), 1);
    for (int t = 0; t < 10000; t++)
        prices_move(price, usage, 4, 10, 100);
    assert_near(mean_exp(price, 4), 1); /* whatever their size */
    assert_true(prices_spread(price, 4) > 1e5);
}

/* The definition, with nothing saved. */
static void move_slowly(double *price, const double *usage, uint32_t K, double a, double c)
{
    double max = -INFINITY, sum = 0;
    for (uint32_t k = 0; k < K; k++) {
        double wanting = -log(K * usage[k]);
        price[k] += a * (wanting > c ? c : wanting < -c ? -c : wanting);
        max = fmax(max, price[k]);
    }
    for (uint32_t k = 0; k < K; k++)
        sum += exp(price[k] - max);
    double level = max + log(sum / K);
    for (uint32_t k = 0; k < K; k++)
        price[k] -= level;
}

/* To the bit: runs of one price, usages on both sides of where the logarithm is cut, and beside it. */
static void test_what_is_saved_changes_no_bit(void **state)
{
    (void)state;
    enum { K = 64 };
    static const double cuts[] = {0.25, 1, 3, 50};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        double fast[K] = {0}, slow[K] = {0}, usage[K], limit = exp(-cuts[i]) / K;
        for (int k = 0; k < K; k++)
            usage[k] = k < 20 ? 0 : k < 40 ? limit * (1 + 1e-16 * (k - 30)) : limit * (0.5 + 0.1 * k);
        for (int t = 0; t < 20; t++) {
            usage[t] = 1.0 / K;
            prices_move(fast, usage, K, 0.1, cuts[i]);
            move_slowly(slow, usage, K, 0.1, cuts[i]);
            assert_memory_equal(fast, slow, sizeof fast);
        }
    }
}

/* Every embedding takes the component that is most attractive to it, one of them far more so than the others. */
static void test_use_becomes_even(void **state)
{
    (void)state;
    enum { K = 8, N = 256 };
    double price[K] = {0}, usage[K];
    for (int k = 0; k < K; k++)
        usage[k] = 1.0 / K;
    for (uint64_t t = 0; t < 300; t++) {
        double count[K] = {0};
        struct rng r;
        rng_open(&r, 5, RNG_JITTER, t, 0, 0);
        for (int i = 0; i < N; i++) {
            int best = 0;
            double most = -1e9;
            for (int k = 0; k < K; k++) {
                double attraction = rng_normal(&r) + (k == 3 ? 4 : 0) + price[k];
                if (attraction > most) {
                    most = attraction;
                    best = k;
                }
            }
            count[best]++;
        }
        for (int k = 0; k < K; k++)
            usage[k] = 0.9 * usage[k] + 0.1 * count[k] / N;
        prices_move(price, usage, K, 0.1, 1);
        if (t == 0)
            assert_true(usage[3] > 0.15); /* nearly all of the first step's */
    }
    assert_true(mixture_usage_perplexity(usage, K) > 7.9);
    assert_true(price[0] - price[3] > 3 && price[0] - price[3] < 5);
}

/* In the mixture: prices follow its usage of the same step, are published, and one that is re-seeded starts anew. */
static void test_of_a_mixture(void **state)
{
    (void)state;
    const struct mixture_options o = {.K = 4,
                                      .D = 3,
                                      .covariance = COVARIANCE_DIAGONAL,
                                      .forgetting = 0.9,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 1,
                                      .usage_momentum = 0.5,
                                      .reseed_usage = 0.6,
                                      .reseed_distance = 0.1,
                                      .reseed_max = 1,
                                      .balance = 0.5,
                                      .balance_clip = 1};
    uint32_t index[2] = {1, 2};
    float n[2] = {1, 3}, s1[6] = {0, 0, 1, 0, 3, 0}, s2[6] = {0, 0, 1, 0, 3, 0};
    float novel[3] = {1, 0, 0}, distance[1] = {0.9f};
    struct stats_rows s = {.K = 4, .D = 3, .R = 2, .index = index, .n = n, .s1 = s1, .s2 = s2, .count = 4};
    double expected[4] = {0};
    struct mixture *m, *copy;
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 1);
    assert_true(m->view->priced && m->view->price[0] == 0);
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    prices_move(expected, m->usage, 4, 0.5, 1);
    for (int k = 0; k < 4; k++) {
        assert_near(m->price[k], expected[k]);
        assert_true(m->view->price[k] == (float)m->price[k]);
    }
    assert_int_equal(m->changed_count, 2); /* prices make no row a changed one */
    s.V = 1;
    s.novel = novel;
    s.novel_distance = distance;
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    assert_int_equal(m->reseed_count, 1);
    expected[m->reseeds[0].component] = 0;
    prices_move(expected, m->usage, 4, 0.5, 1);
    for (int k = 0; k < 4; k++)
        assert_near(m->price[k], expected[k]);
    assert_int_equal(mixture_clone(m, &copy), 0);
    assert_memory_equal(copy->price, m->price, 4 * sizeof(double));
    mixture_free(&copy);
    mixture_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_use_moves_nothing),
        cmocka_unit_test(test_a_step_is_the_formula),
        cmocka_unit_test(test_what_is_saved_changes_no_bit),
        cmocka_unit_test(test_use_becomes_even),
        cmocka_unit_test(test_of_a_mixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
