/* Merge and split: exact sums, halves where the header puts them, invariants, and when nothing happens. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "server/prototype/split.h"
#include "server/prototype/vmf.h"

enum { K = 5, D = 3 };

#define assert_near(a, b) assert_true(fabs((a) - (b)) <= 1e-12)

static const struct mixture_options options = {.K = K,
                                               .D = D,
                                               .covariance = COVARIANCE_DIAGONAL,
                                               .forgetting = 0.9,
                                               .variance_floor = 1e-3,
                                               .initial_mass = 1,
                                               .usage_momentum = 0.5,
                                               .reseed_max = 1,
                                               .merge_distance = 0.01};

static void set_row(struct mixture *m, uint32_t k, double n, const double mu[D], const double v[D])
{
    m->mass[k] = n;
    m->usage[k] = 0.1 * (k + 1);
    for (size_t d = 0; d < D; d++) {
        m->s1[k * D + d] = n * mu[d];
        if (m->s2 && m->options.covariance != COVARIANCE_FULL)
            m->s2[k * D + d] = n * (mu[d] * mu[d] + v[d]);
    }
    for (size_t i = 0; i < D * D && m->options.covariance == COVARIANCE_FULL; i++) {
        static const double between[D][D] = {{0, 0.002, 0.001}, {0.002, 0, -0.003}, {0.001, -0.003, 0}};
        size_t a = i / D, b = i % D;
        m->s2[k * D * D + i] = n * (mu[a] * mu[b] + (a == b ? v[a] : between[a][b]));
    }
}

/* 1 and 3 are twins, 2 is heavy and wide in its last dimension, 4 wider but light, 0 apart. */
static struct mixture *twins(struct mixture_options o)
{
    struct mixture *m;
    static const double v[D] = {0.01, 0.02, 0.01}, wide[D] = {0.01, 0.01, 0.09}, wider[D] = {0.3, 0.3, 0.3};
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 1);
    set_row(m, 0, 10, (double[]){0, 0, 1}, v);
    set_row(m, 1, 4, (double[]){0.9, 0.1, 0}, v);
    set_row(m, 2, 50, (double[]){0, 0.9, 0.1}, wide);
    set_row(m, 3, 8, (double[]){0.91, 0.1, 0}, v);
    set_row(m, 4, 1, (double[]){-1, 0, 0}, wider);
    m->last_assigned[2] = 7;
    m->last_assigned[3] = 5;
    return m;
}

static void sums(const struct mixture *m, double out[D + 2])
{
    memset(out, 0, (D + 2) * sizeof *out);
    for (uint32_t k = 0; k < K; k++) {
        out[D] += m->mass[k];
        out[D + 1] += m->usage[k];
        for (size_t d = 0; d < D; d++)
            out[d] += m->s1[k * D + d];
    }
}

static void test_twins_merge_and_the_widest_splits(void **state)
{
    (void)state;
    struct mixture *m = twins(options);
    double before[D + 2], after[D + 2], s2 = m->s2[1 * D + 1] + m->s2[3 * D + 1];
    sums(m, before);
    split_nearest(m, 9);
    sums(m, after);
    for (size_t i = 0; i < D + 2; i++)
        assert_near(after[i], before[i]);
    assert_true(m->split.made && m->splits == 1);
    assert_true(m->split.kept == 1 && m->split.freed == 3 && m->split.halved == 2);
    assert_near(m->mass[1], 12);
    assert_near(m->s1[1 * D], 4 * 0.9 + 8 * 0.91);
    assert_near(m->s2[1 * D + 1], s2);
    assert_near(m->usage[1], 0.2 + 0.4);
    for (uint32_t half = 2; half <= 3; half++) {
        double sign = half == 2 ? 1 : -1, mu = 0.1 + sign * 0.3;
        assert_near(m->mass[half], 25);
        assert_near(m->usage[half], 0.15);
        assert_near(m->s1[half * D + 1] / 25, 0.9);
        assert_near(m->s1[half * D + 2] / 25, mu);
        assert_near(m->s2[half * D + 2] / 25 - mu * mu, 0.09);
        assert_near(m->s2[half * D + 1] / 25 - 0.81, 0.01);
        assert_int_equal(m->last_assigned[half], 7);
    }
    assert_int_equal(m->last_assigned[1], 5);
    assert_true(m->updated_step[0] == 0 && m->updated_step[1] == 9 && m->updated_step[3] == 9);
    split_nearest(m, 10);
    assert_true(!m->split.made && m->splits == 1);
    mixture_free(&m);
}

/* The same of matrices: what has a covariance with the dimension of the move moves along. */
static void test_matrices_split_too(void **state)
{
    (void)state;
    struct mixture_options o = options;
    o.covariance = COVARIANCE_FULL;
    struct mixture *m = twins(o);
    static const double V[D][D] = {{0.01, 0.002, 0.001}, {0.002, 0.01, -0.003}, {0.001, -0.003, 0.09}};
    split_nearest(m, 9);
    assert_true(m->split.made && m->split.kept == 1 && m->split.freed == 3 && m->split.halved == 2);
    assert_near(m->s2[D * D], 4 * (0.81 + 0.01) + 8 * (0.91 * 0.91 + 0.01));
    for (uint32_t half = 2; half <= 3; half++) {
        double mu[D] = {0, 0.9, half == 2 ? 0.4 : -0.2};
        for (size_t i = 0; i < D; i++) {
            assert_near(m->s1[half * D + i] / 25, mu[i]);
            for (size_t j = 0; j < D; j++)
                assert_near(m->s2[(half * D + i) * D + j] / 25 - mu[i] * mu[j], V[i][j]);
        }
    }
    mixture_free(&m);
}

/* Weights exp(price) add and halve as masses do. */
static void test_prices_go_with_it(void **state)
{
    (void)state;
    struct mixture_options o = options;
    o.balance = 0.1;
    o.balance_clip = 1;
    struct mixture *m = twins(o);
    const double price[K] = {0, log(0.5), log(4), log(0.25), 1};
    memcpy(m->price, price, sizeof price);
    split_nearest(m, 1);
    assert_near(m->price[1], log(0.75));
    assert_near(m->price[2], log(2));
    assert_near(m->price[3], log(2));
    assert_true(m->price[0] == 0 && m->price[4] == 1);
    mixture_free(&m);
}

/* Halves of a narrow component would be twins themselves. */
static void test_nothing_when_nothing_is_wide(void **state)
{
    (void)state;
    static const double narrow[D] = {1e-3, 1e-3, 1e-3};
    struct mixture *m = twins(options);
    for (uint32_t k = 0; k < K; k++) {
        double mu[D], n = m->mass[k];
        for (size_t d = 0; d < D; d++)
            mu[d] = m->s1[k * D + d] / n;
        set_row(m, k, n, mu, narrow);
    }
    double mass = m->mass[1];
    split_nearest(m, 1);
    assert_true(!m->split.made && m->splits == 0 && m->mass[1] == mass);
    mixture_free(&m);
}

/* A von Mises-Fisher component keeps its concentration in both halves. */
static void test_directions_turn(void **state)
{
    (void)state;
    struct mixture_options o = options;
    o.covariance = COVARIANCE_VMF;
    struct mixture *m = twins(o);
    double R = sqrt(0.82), delta = 1 / sqrt(vmf_concentration(D, R)), cosine = 0, length[2] = {0};
    m->mass[4] = 1.01; /* |S1| is 1: as narrow as can be */
    split_nearest(m, 1);
    assert_true(m->split.made && m->split.halved == 2 && m->split.freed == 3);
    for (size_t d = 0; d < D; d++) {
        cosine += m->s1[2 * D + d] * m->s1[3 * D + d];
        length[0] += m->s1[2 * D + d] * m->s1[2 * D + d];
        length[1] += m->s1[3 * D + d] * m->s1[3 * D + d];
    }
    assert_near(sqrt(length[0]), 25 * R);
    assert_near(sqrt(length[1]), 25 * R);
    /* mu has nothing of the first dimension, which is where they go */
    assert_near(cosine / (625 * R * R), (1 - delta * delta) / (1 + delta * delta));
    assert_true(m->s1[2 * D] > 0 && m->s1[3 * D] < 0);
    mixture_free(&m);
}

/* Components are looked at in turn: wherever twins are, their turn comes. As a part of the step, the M-step follows. */
static void test_every_pair_is_found_in_time(void **state)
{
    (void)state;
    enum { MANY = 50 };
    struct mixture_options o = options;
    struct mixture *m;
    struct stats_rows s = {.K = MANY, .D = D};
    o.K = MANY;
    o.merge_distance = 1e-6;
    for (uint32_t twin = 0; twin < MANY - 1; twin += 7) {
        assert_int_equal(mixture_new(&o, &m), 0);
        mixture_start(m, 2);
        memcpy(m->s1 + (twin + 1) * D, m->s1 + twin * D, D * sizeof *m->s1);
        for (int t = 0; t < (MANY + SPLIT_LOOKED - 1) / SPLIT_LOOKED; t++) {
            assert_int_equal(mixture_em_step(m, &s, 1), 0);
            assert_int_equal(m->changed_count, m->split.made ? 3 : 0);
            if (m->split.made)
                assert_true(m->split.kept == twin && m->split.freed == twin + 1);
        }
        assert_int_equal(m->splits, 1);
        assert_near(m->mass[twin], 2);
        mixture_free(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matrices_split_too), cmocka_unit_test(test_twins_merge_and_the_widest_splits),
        cmocka_unit_test(test_prices_go_with_it),  cmocka_unit_test(test_nothing_when_nothing_is_wide),
        cmocka_unit_test(test_directions_turn),    cmocka_unit_test(test_every_pair_is_found_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
