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
#include "server/prototype/ranks.h"

enum { CHOICES = 8 };

#define assert_near(a, b) assert_true(fabs((a) - (b)) <= 1e-12)

static double mean_exp(const double *price, uint32_t K)
{
    double sum = 0;
    for (uint32_t k = 0; k < K; k++)
        sum += exp(price[k]);
    return sum / K;
}

/* The definition: a component's rank is how many are used more, or as much and have a smaller index. */
static void wanted_slowly(const double *usage, uint32_t K, double power, double *wanted)
{
    double sum = 0;
    for (uint32_t r = 0; r < K; r++)
        sum += pow(r + 1.0, -power);
    for (uint32_t k = 0; k < K; k++) {
        uint32_t rank = 0;
        for (uint32_t j = 0; j < K; j++)
            rank += usage[j] > usage[k] || (usage[j] == usage[k] && j < k);
        wanted[k] = pow(rank + 1.0, -power) / sum;
    }
}

static void test_even_use_moves_nothing(void **state)
{
    (void)state;
    double price[4] = {0}, usage[4] = {0.25, 0.25, 0.25, 0.25};
    prices_move(price, usage, NULL, 4, 0.5, 1);
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
    prices_move(price, usage, NULL, 4, 0.5, 1);
    for (int k = 1; k < 4; k++)
        assert_near(price[k] - price[0], before[k] + moved[k] - before[0] - moved[0]);
    assert_near(mean_exp(price, 4), 1);
    for (int t = 0; t < 10000; t++)
        prices_move(price, usage, NULL, 4, 10, 100);
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
            prices_move(fast, usage, NULL, K, 0.1, cuts[i]);
            move_slowly(slow, usage, K, 0.1, cuts[i]);
            assert_memory_equal(fast, slow, sizeof fast);
        }
    }
}

/* Every embedding takes the component that is most attractive to it, one of them far more so than the others. */
static void let_choose(struct ranks *ranks, double *price, double *usage)
{
    enum { K = CHOICES, N = 256 };
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
        prices_move(price, usage, ranks ? ranks_wanted(ranks, usage) : NULL, K, 0.1, 1);
        if (t == 0)
            assert_true(usage[3] > 0.15); /* nearly all of the first step's */
    }
}

static void test_use_becomes_even(void **state)
{
    (void)state;
    double price[CHOICES] = {0}, usage[CHOICES];
    let_choose(NULL, price, usage);
    assert_true(mixture_usage_perplexity(usage, CHOICES) > 7.9);
    assert_true(price[0] - price[3] > 3 && price[0] - price[3] < 5);
}

/* The most attractive one stays the first, with the share of the first; the others, alike, find an order among them. */
static void test_use_becomes_a_power_law(void **state)
{
    (void)state;
    double price[CHOICES] = {0}, usage[CHOICES], wanted[CHOICES];
    struct ranks *ranks;
    assert_int_equal(ranks_new(CHOICES, 1, &ranks), 0);
    let_choose(ranks, price, usage);
    wanted_slowly(usage, CHOICES, 1, wanted);
    for (int k = 0; k < CHOICES; k++)
        assert_true(fabs(usage[k] - wanted[k]) < 0.03);
    assert_true(usage[3] > 0.33 && wanted[3] == ranks_wanted(ranks, usage)[3] && wanted[3] > 0.36);
    assert_true(mixture_usage_perplexity(usage, CHOICES) < 6.7);
    ranks_free(&ranks);
}

/* Usages of all sizes, equal ones, nothing and next to nothing among them; the sort's order is that of the
 * comparisons. */
static void test_ranks_are_the_order_of_usage(void **state)
{
    (void)state;
    enum { K = 517 };
    static const double powers[] = {0.5, 1, 4};
    for (size_t p = 0; p < sizeof powers / sizeof powers[0]; p++) {
        struct ranks *ranks;
        double usage[K], wanted[K], sum = 0;
        assert_int_equal(ranks_new(K, powers[p], &ranks), 0);
        for (uint64_t t = 0; t < 3; t++) {
            struct rng r;
            rng_open(&r, 7, RNG_JITTER, t, 0, 0);
            for (int k = 0; k < K; k++)
                usage[k] = k % 5 == 0 ? 0 : k % 5 == 1 ? 1.0 / K : k % 5 == 2 ? 1e-300 * k : exp(8 * rng_normal(&r));
            wanted_slowly(usage, K, powers[p], wanted);
            const double *fast = ranks_wanted(ranks, usage);
            assert_memory_equal(fast, wanted, sizeof wanted);
        }
        for (int k = 0; k < K; k++)
            sum += wanted[k];
        assert_near(sum, 1);
        assert_true(ranks_least(ranks) == wanted[K - 1 - (K - 1) % 5]); /* the last one that nothing uses */
        ranks_free(&ranks);
    }
}

/* A step towards given shares is the formula of the even one with them in the place of 1/K. */
static void test_a_step_towards_a_power_law(void **state)
{
    (void)state;
    double price[4] = {0.1, 0.2, -0.3, 0}, before[4], usage[4] = {0.125, 0.875, 0, 0}, wanted[4];
    struct ranks *ranks;
    assert_int_equal(ranks_new(4, 2, &ranks), 0);
    memcpy(before, price, sizeof price);
    prices_move(price, usage, ranks_wanted(ranks, usage), 4, 0.5, 1);
    wanted_slowly(usage, 4, 2, wanted);
    double first = log(wanted[0] / 0.125), second = log(wanted[1] / 0.875); /* about .49 and -.22, not cut */
    static const double idle = 1;
    assert_true(fabs(first) < 1 && fabs(second) < 1);
    assert_near(price[1] - price[0], before[1] + 0.5 * second - before[0] - 0.5 * first);
    assert_near(price[2] - price[0], before[2] + 0.5 * idle - before[0] - 0.5 * first);
    assert_near(price[3] - price[0], before[3] + 0.5 * idle - before[0] - 0.5 * first);
    assert_near(mean_exp(price, 4), 1);
    ranks_free(&ranks);
}

/* Of four components with prices, a = 0.5 and c = 1. */
static struct mixture *priced_mixture(double usage_momentum, double reseed_usage, double power)
{
    const struct mixture_options o = {.K = 4,
                                      .D = 3,
                                      .covariance = COVARIANCE_DIAGONAL,
                                      .forgetting = 0.9,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 1,
                                      .usage_momentum = usage_momentum,
                                      .reseed_usage = reseed_usage,
                                      .reseed_distance = 0.1,
                                      .reseed_max = 1,
                                      .balance = 0.5,
                                      .balance_clip = 1,
                                      .balance_power = power};
    struct mixture *m;
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 1);
    return m;
}

/* Prices of m are what `expected` becomes by its usage and the wanted shares. */
static void expect_prices(const struct mixture *m, const double *wanted, double *expected)
{
    prices_move(expected, m->usage, wanted, 4, 0.5, 1);
    for (int k = 0; k < 4; k++)
        assert_near(m->price[k], expected[k]);
}

/* In the mixture: prices follow its usage of the same step, are published, and one that is re-seeded starts anew. */
static void test_of_a_mixture(void **state)
{
    (void)state;
    uint32_t index[2] = {1, 2};
    float n[2] = {1, 3}, s1[6] = {0, 0, 1, 0, 3, 0}, s2[6] = {0, 0, 1, 0, 3, 0};
    float novel[3] = {1, 0, 0}, distance[1] = {0.9f};
    struct stats_rows s = {.K = 4, .D = 3, .R = 2, .index = index, .n = n, .s1 = s1, .s2 = s2, .count = 4};
    double expected[4] = {0};
    struct mixture *m = priced_mixture(0.5, 0.6, 0), *copy;
    assert_true(m->view->priced && m->view->price[0] == 0);
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    expect_prices(m, NULL, expected);
    for (int k = 0; k < 4; k++)
        assert_true(m->view->price[k] == (float)m->price[k]);
    assert_int_equal(m->changed_count, 2); /* prices make no row a changed one */
    s.V = 1;
    s.novel = novel;
    s.novel_distance = distance;
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    assert_int_equal(m->reseed_count, 1);
    expected[m->reseeds[0].component] = 0;
    expect_prices(m, NULL, expected);
    assert_int_equal(mixture_clone(m, &copy), 0);
    assert_memory_equal(copy->price, m->price, 4 * sizeof(double));
    mixture_free(&copy);
    mixture_free(&m);
}

/* The mixture's prices lead to the law, and what is used as little as its last rank should be is not re-seeded, but
 * what nothing uses is. */
static void test_a_power_law_of_a_mixture(void **state)
{
    (void)state;
    uint32_t index[4] = {0, 1, 2, 3};
    float n[4] = {1.6f, 0.8f, 6.9f, 0.7f}, s1[12] = {0}, s2[12] = {0}, novel[3] = {1, 0, 0}, distance[1] = {0.9f};
    struct stats_rows s = {.K = 4, .D = 3, .R = 4, .index = index, .n = n, .s1 = s1, .s2 = s2, .count = 10};
    double expected[4] = {0}, wanted[4];
    struct mixture *m = priced_mixture(0, 0.9, 1.5);
    s.V = 1;
    s.novel = novel;
    s.novel_distance = distance;
    /* 7 % of the embeddings: less than 0.9/K, more than 0.9 of the last share; then 5 % */
    for (int t = 0; t < 2; t++) {
        n[3] = t == 0 ? 0.7f : 0.5f;
        for (int k = 0; k < 4; k++)
            s1[3 * k] = s2[3 * k] = n[k];
        assert_int_equal(mixture_em_step(m, &s, 1), 0);
        assert_int_equal(m->reseed_count, t);
        expected[3] = 0; /* from there when it is re-seeded, and at the start */
        wanted_slowly(m->usage, 4, 1.5, wanted);
        expect_prices(m, wanted, expected);
    }
    assert_int_equal(m->reseeds[0].component, 3);
    mixture_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_even_use_moves_nothing),
        cmocka_unit_test(test_a_step_is_the_formula),
        cmocka_unit_test(test_what_is_saved_changes_no_bit),
        cmocka_unit_test(test_use_becomes_even),
        cmocka_unit_test(test_ranks_are_the_order_of_usage),
        cmocka_unit_test(test_a_step_towards_a_power_law),
        cmocka_unit_test(test_use_becomes_a_power_law),
        cmocka_unit_test(test_a_power_law_of_a_mixture),
        cmocka_unit_test(test_of_a_mixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
