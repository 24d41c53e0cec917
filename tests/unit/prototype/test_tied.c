/* The pooled scatter against full covariances of the same statistics, which have every component's S2. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "server/prototype/mixture.h"
#include "server/prototype/tied.h"

enum { K = 4, D = 3, N = 12 };

static struct mixture *start(enum covariance c, double eta)
{
    const struct mixture_options o = {.K = K,
                                      .D = D,
                                      .covariance = c,
                                      .forgetting = eta,
                                      .variance_floor = 1e-3,
                                      .initial_mass = 2,
                                      .usage_momentum = 0.5,
                                      .reseed_usage = 1,
                                      .reseed_distance = 0.1,
                                      .reseed_max = 1};
    struct mixture *m;
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 5);
    return m;
}

/* Statistics of step t: every embedding belongs to two components. even: each component gets the same mass. */
static void step(struct mixture *m, uint64_t t, bool even)
{
    float h[N * D], gamma[2 * N];
    uint32_t begin[N + 1], index[2 * N];
    struct stats_rows s;
    struct rng r;
    rng_open(&r, 9, RNG_JITTER, t, 0, 0);
    for (size_t i = 0; i < N * D; i++)
        h[i] = (float)rng_normal(&r);
    vec_normalise_rows(h, N, D, NULL);
    for (uint32_t i = 0; i < N; i++) {
        gamma[2 * i] = even ? 0.5f : 0.9f * rng_uniform(&r);
        gamma[2 * i + 1] = 1 - gamma[2 * i];
        index[2 * i] = i % 2;
        index[2 * i + 1] = 2 + i % 2;
        begin[i] = 2 * i;
    }
    begin[N] = 2 * N;
    const struct responsibilities g = {.N = N, .start = begin, .index = index, .gamma = gamma};
    assert_int_equal(stats_accumulate(h, &g, K, D, m->options.covariance, &s), 0);
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    stats_rows_fini(&s);
}

/* sum_k (S2_k - S1_k S1_k^T / N_k) of a full mixture. */
static void pooled(const struct mixture *full, double *A, double *total)
{
    memset(A, 0, D * D * sizeof *A);
    *total = 0;
    for (size_t k = 0; k < K; k++) {
        *total += full->mass[k];
        for (size_t i = 0; i < D * D; i++)
            A[i] += full->s2[k * D * D + i] - full->s1[k * D + i / D] * full->s1[k * D + i % D] / full->mass[k];
    }
}

static void check_same(double eta, bool even)
{
    struct mixture *tied = start(COVARIANCE_TIED, eta), *full = start(COVARIANCE_FULL, eta);
    double A[D * D], total;
    for (uint64_t t = 0; t < 6; t++) {
        step(tied, t, even);
        step(full, t, even);
        pooled(full, A, &total);
        for (size_t i = 0; i < D * D; i++)
            assert_true(fabs(tied->s2[i] - A[i]) < 2e-5);
        assert_memory_equal(tied->view->mean, full->view->mean, K * D * sizeof(float));
        for (size_t i = 0; i < D; i++)
            A[i * (D + 1)] += 1e-3 * total;
        for (size_t i = 0; i < D * D; i++) { /* W V W^T = I */
            const float *W = tied->view->variance;
            double product = 0;
            for (size_t a = 0; a < D * D; a++)
                product += (double)W[i / D * D + a / D] * A[a] / total * (double)W[i % D * D + a % D];
            assert_true(fabs(product - (i / D == i % D)) < 1e-4);
        }
        assert_true(tied->view->log_const[0] == (float)-log(K));
    }
    mixture_free(&tied);
    mixture_free(&full);
}

static void test_it_is_the_pooled_scatter(void **state)
{
    (void)state;
    check_same(1, false);  /* nothing is forgotten: exactly */
    check_same(0.9, true); /* everybody forgets alike: exactly */
}

/* Components that forget unlike: still a scatter of the right size, between those of the least and the most
 * forgetful. */
static void test_it_stays_a_scatter(void **state)
{
    (void)state;
    struct mixture *tied = start(COVARIANCE_TIED, 0.8);
    for (uint64_t t = 0; t < 200; t++)
        step(tied, t, false);
    double total = 0, trace = 0;
    for (size_t k = 0; k < K; k++)
        total += tied->mass[k];
    for (size_t d = 0; d < D; d++)
        trace += tied->s2[d * (D + 1)] / total;
    assert_true(trace > 0.8 && trace < 1); /* embeddings all over the sphere: 1, less what the means explain */
    mixture_free(&tied);
}

/* A re-seeded component leaves with its share and comes with a fresh one's. */
static void test_replacing(void **state)
{
    (void)state;
    double A[D * D] = {4, 1, 0, 1, 8, 0, 0, 0, 2};
    tied_replace(A, D, 3, 12, 2, 0.25);
    static const double want[D * D] = {3.5, 0.75, 0, 0.75, 6.5, 0, 0, 0, 2};
    for (size_t i = 0; i < D * D; i++)
        assert_true(fabs(A[i] - want[i]) < 1e-12);
    struct mixture *m = start(COVARIANCE_TIED, 0.9);
    float novel[D] = {0, 0, 1}, distance[1] = {0.5f};
    struct stats_rows s = {.K = K, .D = D, .V = 1, .novel = novel, .novel_distance = distance};
    for (size_t i = 0; i < D * D; i++)
        m->s2[i] = i % (D + 1) == 0 ? 16 : 0;
    m->usage[1] = 0;
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    assert_int_equal(m->reseed_count, 1);
    assert_true(fabs(m->s2[0] - (12 + 2.0 / 3)) < 1e-12);
    mixture_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_the_pooled_scatter),
        cmocka_unit_test(test_it_stays_a_scatter),
        cmocka_unit_test(test_replacing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
