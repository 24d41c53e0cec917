/* Bounds against logits in double; picking; and the whole E-step with a sieve against the one without, bit by bit.
 * All of it needs AMX and is skipped, visibly, elsewhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/kernels.h"
#include "common/blas.h"
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/covariance.h"
#include "tests/unit/worker/fused.h"
#include "worker/estep.h"
#include "worker/novelty.h"
#include "worker/sieve.h"

enum { N = 40 };

static void need_amx(void)
{
    if (!kernels_possible(KERNELS_AMX))
        skip();
    assert_int_equal(kernels_choose("amx", NULL), 0);
}

static float *normals(size_t n, float scale, uint64_t stream)
{
    float *x = malloc(n * sizeof *x);
    struct rng r;
    rng_open(&r, 21, RNG_MIXTURE, stream, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * (float)rng_normal(&r);
    return x;
}

static float *unit_rows(size_t n, size_t D, uint64_t stream)
{
    float *x = normals(n * D, 1, stream);
    vec_normalise_rows(x, n, D, NULL);
    return x;
}

/* ---- bounds ---- */

struct bounds {
    uint32_t K, D, width;
    float *x, *rows, *bias, *c; /* (N,width), (K,width), (K), (N,K) */
    uint32_t in[N], out[N];
    struct sieve *sieve;
};

/* Components as narrow as `scale` makes them: rows up to that large. */
static void bounds_open(struct bounds *b, uint32_t K, uint32_t D, uint32_t width, float scale)
{
    float *h = unit_rows(N, D, 1);
    *b = (struct bounds){.K = K, .D = D, .width = width};
    b->x = malloc((size_t)N * width * sizeof *b->x);
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t d = 0; d < width; d++)
            b->x[i * width + d] = d + D < width ? h[i * D + d] * h[i * D + d] : h[i * D + d + D - width];
    b->rows = normals((size_t)K * width, scale, 2);
    b->bias = normals(K, 5 * scale, 3);
    b->c = malloc((size_t)N * K * sizeof *b->c);
    for (uint32_t i = 0; i < N; i++) {
        b->in[i] = i * width;
        b->out[i] = i * K;
    }
    assert_int_equal(sieve_new(N, K, width, D, &b->sieve), 0);
    for (uint32_t k = 0; k < K; k += SIEVE_TILE) {
        uint32_t n = K - k < SIEVE_TILE ? K - k : SIEVE_TILE;
        sieve_set_tile(b->sieve, k, n, b->rows + (size_t)k * width);
        sieve_set_biases(b->sieve, k, n, b->bias + k);
    }
    sieve_bound(b->sieve, b->x, b->in, N, b->c, b->out);
    free(h);
}

static void bounds_close(struct bounds *b)
{
    sieve_free(&b->sieve);
    assert_null(b->sieve);
    free(b->x);
    free(b->rows);
    free(b->bias);
    free(b->c);
}

static double logit(const struct bounds *b, uint32_t i, uint32_t k)
{
    double l = b->bias[k];
    for (uint32_t d = 0; d < b->width; d++)
        l += (double)b->x[i * b->width + d] * b->rows[(size_t)k * b->width + d];
    return l;
}

static void check_bounds(uint32_t D, uint32_t width, float scale)
{
    struct bounds b;
    double tightest = INFINITY;
    bounds_open(&b, 1060, D, width, scale);
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t k = 0; k < b.K; k++) {
            double over = b.c[i * b.K + k] - logit(&b, i, k), error = sieve_error(b.sieve, k);
            assert_true(over >= 0 && over <= 2 * error);
            tightest = fmin(tightest, over / error);
        }
    if (width < 10) /* with more terms the roundings cancel */
        assert_true(tightest < 0.9);
    bounds_close(&b);
}

static void test_bounds(void **state)
{
    (void)state;
    need_amx();
    check_bounds(7, 7, 1);
    check_bounds(33, 66, 1000);
    check_bounds(256, 512, 0.01f);
    check_bounds(256, 512, 3e5f);
}

/* One row and all biases anew give what packing everything would. */
static void test_row_anew(void **state)
{
    (void)state;
    struct bounds b;
    need_amx();
    bounds_open(&b, 1060, 9, 18, 10);
    float *before = malloc((size_t)N * b.K * sizeof *before);
    for (uint32_t k = 5; k < b.K; k += 50)
        for (uint32_t d = 0; d < b.width; d++)
            b.rows[k * b.width + d] *= -1.5f;
    for (uint32_t k = 5; k < b.K; k += 50)
        sieve_set_row(b.sieve, k, b.rows + k * b.width);
    sieve_set_biases(b.sieve, 0, SIEVE_TILE, b.bias);
    sieve_set_biases(b.sieve, SIEVE_TILE, b.K - SIEVE_TILE, b.bias + SIEVE_TILE);
    sieve_bound(b.sieve, b.x, b.in, N, before, b.out);
    sieve_set_tile(b.sieve, 0, SIEVE_TILE, b.rows);
    sieve_set_tile(b.sieve, SIEVE_TILE, b.K - SIEVE_TILE, b.rows + (size_t)SIEVE_TILE * b.width);
    sieve_set_biases(b.sieve, 0, SIEVE_TILE, b.bias);
    sieve_set_biases(b.sieve, SIEVE_TILE, b.K - SIEVE_TILE, b.bias + SIEVE_TILE);
    sieve_bound(b.sieve, b.x, b.in, N, b.c, b.out);
    assert_memory_equal(before, b.c, (size_t)N * b.K * sizeof *before);
    free(before);
    bounds_close(&b);
}

static void check_list(const struct bounds *b, uint32_t i, float threshold, uint32_t max)
{
    static uint32_t index[1060 + SIEVE_ROOM];
    uint32_t want = 0, n = sieve_list(b->sieve, i, threshold, max, index);
    for (uint32_t k = 0; k < b->K; k++) {
        if (b->c[i * b->K + k] < threshold)
            continue;
        if (want < n)
            assert_int_equal(index[want], k);
        want++;
    }
    assert_true(n == want || (n > max && n < want));
}

static void test_list(void **state)
{
    (void)state;
    struct bounds b;
    need_amx();
    bounds_open(&b, 1060, 9, 9, 10);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t best = 0;
        for (uint32_t k = 1; k < b.K; k++)
            best = b.c[i * b.K + k] > b.c[i * b.K + best] ? k : best;
        float largest = b.c[i * b.K + best];
        assert_int_equal(sieve_best(b.sieve, i), best);
        assert_true(sieve_largest(b.sieve, i) == largest);
        check_list(&b, i, largest + 1, 8);
        check_list(&b, i, largest, 8);
        check_list(&b, i, largest - 10, 8);
        check_list(&b, i, largest - 10, b.K);
        check_list(&b, i, -INFINITY, b.K);
        check_list(&b, i, -INFINITY, 8); /* too many */
    }
    bounds_close(&b);
}

/* ---- the E-step ---- */

/* Components about unit vectors, and rows about some of them; the wider, the more matter to a row. */
static struct mixture_view *mixture(uint32_t K, uint32_t D, enum covariance c, float variance, double beta)
{
    struct mixture_view *v;
    struct rng r;
    assert_int_equal(mixture_view_new(K, D, c, &v), 0);
    rng_open(&r, 22, RNG_MIXTURE, K, D, c);
    for (size_t i = 0; i < (size_t)K * D; i++)
        v->mean[i] = (float)rng_normal(&r);
    vec_normalise_rows(v->mean, K, D, NULL);
    for (size_t i = 0; i < K * covariance_width(c, D); i++)
        v->variance[i] = variance * (0.5f + rng_uniform(&r));
    for (uint32_t k = 0; k < K; k++) {
        double constant = 0;
        for (uint32_t d = 0; d < D && c != COVARIANCE_VMF; d++) {
            double of_d = v->variance[c == COVARIANCE_SPHERICAL ? k : k * D + d], mean = v->mean[k * D + d];
            constant -= 0.5 * (log(of_d) + mean * mean / of_d);
        }
        v->log_const[k] = (float)(c == COVARIANCE_VMF ? -1 / (double)v->variance[k] : constant);
        v->price[k] = (float)(k % 5) - 2;
    }
    v->priced = true;
    v->version = 1;
    v->beta = beta;
    return v;
}

static float *rows_near(const struct mixture_view *v, uint64_t stream)
{
    float *h = normals((size_t)N * v->D, 0.1f / sqrtf((float)v->D), stream);
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t d = 0; d < v->D && i % 4 != 0; d++) /* the others are far from all */
            h[i * v->D + d] += v->mean[(i * 97 % v->K) * v->D + d];
    vec_normalise_rows(h, N, v->D, NULL);
    return h;
}

/* What an E-step gives, copied. */
struct outcome {
    uint32_t start[N + 1], assigned[N], V;
    uint32_t *index;
    float *gamma, *novel, distance[N];
    double loglik, dropped;
};

static void *copied(const void *from, size_t size)
{
    void *to = malloc(size + 1);
    memcpy(to, from, size);
    return to;
}

static struct outcome run(const char *kernels, const struct mixture_view *v, const float *h, float drop)
{
    struct estep_options o = {
        .drop = drop, .novel_max = N, .novel_distance = 0.05f, .choice = RESEED_FARTHEST, .covariance = v->covariance};
    struct estep *s;
    struct estep_result r;
    struct outcome out = {0};
    assert_int_equal(kernels_choose(kernels, NULL), 0);
    assert_int_equal(estep_new(N, v->K, v->D, o, &s), 0);
    estep_use(s, v);
    estep_run(s, h, N, &r);
    memcpy(out.start, r.gamma.start, sizeof out.start);
    memcpy(out.assigned, r.extra.assigned, sizeof out.assigned);
    out.index = copied(r.gamma.index, out.start[N] * sizeof(uint32_t));
    out.gamma = copied(r.gamma.gamma, out.start[N] * sizeof(float));
    out.V = r.extra.V;
    out.novel = copied(r.extra.novel, (size_t)out.V * v->D * sizeof(float));
    memcpy(out.distance, r.extra.novel_distance, out.V * sizeof(float));
    out.loglik = r.extra.loglik;
    out.dropped = r.extra.dropped;
    estep_free(&s);
    return out;
}

static void forget(struct outcome *o)
{
    free(o->index);
    free(o->gamma);
    free(o->novel);
}

static void assert_same(const struct outcome *a, const struct outcome *b, uint32_t D)
{
    if (!tiles_are_fused())
        return;
    assert_memory_equal(a->start, b->start, sizeof a->start);
    assert_memory_equal(a->assigned, b->assigned, sizeof a->assigned);
    assert_memory_equal(a->index, b->index, a->start[N] * sizeof *a->index);
    assert_memory_equal(a->gamma, b->gamma, a->start[N] * sizeof *a->gamma);
    assert_true(a->loglik == b->loglik && a->dropped == b->dropped);
    assert_int_equal(a->V, b->V);
    assert_memory_equal(a->novel, b->novel, (size_t)a->V * D * sizeof *a->novel);
    assert_memory_equal(a->distance, b->distance, a->V * sizeof a->distance[0]);
}

static void check_same(uint32_t K, uint32_t D, enum covariance c, float variance, double beta, float drop)
{
    static const char *const others[] = {"avx512", "avx2"};
    struct mixture_view *v = mixture(K, D, c, variance, beta);
    float *h = rows_near(v, 5);
    assert_int_equal(kernels_choose("amx", NULL), 0);
    assert_true(sieve_pays(K, c == COVARIANCE_VMF ? D : 2 * D));
    struct outcome a = run("amx", v, h, drop);
    assert_in_range(a.V, N / 4, N - 1);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct outcome b = run(others[i], v, h, drop);
        assert_same(&a, &b, D);
        forget(&b);
    }
    forget(&a);
    free(h);
    mixture_view_free(&v);
}

static void test_same_as_without(void **state)
{
    (void)state;
    need_amx();
    for (uint32_t K = 700; K <= 8300; K += 7600) {
        check_same(K, 24, COVARIANCE_DIAGONAL, 2e-3f, 1, 1e-6f);
        check_same(K, 24, COVARIANCE_DIAGONAL, 1e-3f, 0.5, 1e-6f);
        check_same(K, 24, COVARIANCE_DIAGONAL, 1e-3f, 1, 0); /* everything that a float holds is kept */
        check_same(K, 24, COVARIANCE_SPHERICAL, 2e-3f, 0.8, 1e-6f);
        check_same(K, 47, COVARIANCE_VMF, 2e-3f, 1, 1e-6f);
        check_same(K, 64, COVARIANCE_DIAGONAL, 0.1f, 0.5, 1e-6f); /* so wide that too much passes */
    }
    check_same(150, 121, COVARIANCE_DIAGONAL, 1e-2f, 1, 1e-6f);
    check_same(8300, 256, COVARIANCE_DIAGONAL, 2e-3f, 1, 1e-6f); /* so large that no rows are kept */
}

/* One E-step with a sieve through versions of which some rows, or all, have moved, each used for several runs: where
 * too much passes a while goes by without the sieve. */
static void test_versions(void **state)
{
    (void)state;
    enum { K = 1100, D = 24, VERSIONS = 6, RUNS = 5 };
    struct estep_options o = {.drop = 1e-6f, .covariance = COVARIANCE_DIAGONAL};
    struct estep *s;
    struct estep_result r;
    need_amx();
    struct mixture_view *v = mixture(K, D, COVARIANCE_DIAGONAL, 2e-3f, 1);
    float *h = rows_near(v, 5);
    assert_int_equal(mixture_view_keep_moved(v), 0);
    assert_int_equal(estep_new(N, K, D, o, &s), 0);
    for (uint32_t version = 1; version <= VERSIONS; version++) {
        v->version = version;
        for (uint32_t k = version; k < K; k += version == 3 ? 1 : 9) { /* in version 3 so wide that all pass */
            v->moved[k] = version;
            for (uint32_t d = 0; d < D; d++)
                v->variance[k * D + d] *= version == 3 ? 100 : version == 4 ? 0.01f : 0.9f;
            v->log_const[k] += 0.1f;
        }
        assert_int_equal(kernels_choose("amx", NULL), 0);
        estep_use(s, v);
        for (int i = 0; i < RUNS; i++)
            estep_run(s, h, N, &r);
        struct outcome b = run("avx512", v, h, o.drop);
        if (tiles_are_fused()) {
            assert_memory_equal(r.gamma.start, b.start, sizeof b.start);
            assert_memory_equal(r.gamma.index, b.index, b.start[N] * sizeof *b.index);
            assert_memory_equal(r.gamma.gamma, b.gamma, b.start[N] * sizeof *b.gamma);
            assert_true(r.extra.loglik == b.loglik && r.extra.dropped == b.dropped);
        }
        forget(&b);
    }
    estep_free(&s);
    free(h);
    mixture_view_free(&v);
}

/* The sieve's E-step against the definition, in double. */
static void test_against_the_definition(void **state)
{
    (void)state;
    enum { K = 8300, D = 24 };
    need_amx();
    struct mixture_view *v = mixture(K, D, COVARIANCE_DIAGONAL, 2e-3f, 0.7);
    float *h = rows_near(v, 5);
    double *gamma = malloc(K * sizeof *gamma);
    struct outcome got = run("amx", v, h, 1e-6f);
    for (uint32_t i = 0; i < N; i++) {
        double max = -INFINITY, total = 0;
        for (uint32_t k = 0; k < K; k++) {
            gamma[k] = v->log_const[k] + (double)v->price[k];
            for (uint32_t d = 0; d < D; d++) {
                double x = h[i * D + d], precision = 1 / (double)v->variance[k * D + d];
                gamma[k] += precision * x * (v->mean[k * D + d] - 0.5 * x);
            }
            max = fmax(max, gamma[k]);
        }
        for (uint32_t k = 0; k < K; k++)
            total += gamma[k] = exp(0.7 * (gamma[k] - max));
        double kept = 0;
        for (uint32_t z = got.start[i]; z < got.start[i + 1]; z++) {
            assert_true(fabs(got.gamma[z] - gamma[got.index[z]] / total) < 5e-4);
            kept += gamma[got.index[z]] / total;
        }
        assert_true(kept > 1 - 1e-3);
    }
    assert_true(got.start[N] > N);
    forget(&got);
    free(gamma);
    free(h);
    mixture_view_free(&v);
}

/* ---- novelty alone ---- */

static void check_nearest(uint32_t K, uint32_t n, float spread)
{
    enum { D = 20 };
    struct novelty *s;
    float *c = unit_rows(K, D, 7), *x = unit_rows(n, D, 8), nearest[N];
    for (uint32_t k = 1; k < K; k++) /* all about the first, when the spread is small */
        for (uint32_t d = 0; d < D; d++)
            c[k * D + d] = (1 - spread) * c[d] + spread * c[k * D + d];
    vec_normalise_rows(c, K, D, NULL);
    assert_int_equal(novelty_new(N, K, D, &s), 0);
    novelty_search(s, x, n, c, 2, nearest);
    for (uint32_t i = 0; i < n; i++) {
        double best = -2;
        for (uint32_t k = 0; k < K; k++) {
            double cosine = 0;
            for (uint32_t d = 0; d < D; d++)
                cosine += (double)x[i * D + d] * c[k * D + d];
            best = fmax(best, cosine);
        }
        assert_true(fabs(nearest[i] - best) < 1e-6);
    }
    novelty_search(s, x, n, c, -0.5f, nearest); /* what is beyond may be anything beyond */
    for (uint32_t i = 0; i < n; i++)
        assert_true(nearest[i] > -0.5f);
    novelty_free(&s);
    free(c);
    free(x);
}

static void test_nearest(void **state)
{
    (void)state;
    need_amx();
    check_nearest(8200, N, 1);
    check_nearest(8213, 1, 1);
    check_nearest(8192, N, 0.001f); /* so alike that nothing can be left out */
    check_nearest(100, N, 1);       /* too few to sieve */
}

int main(void)
{
    compute_thread_init();
    blas_single_threaded();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds),   cmocka_unit_test(test_row_anew),
        cmocka_unit_test(test_list),     cmocka_unit_test(test_same_as_without),
        cmocka_unit_test(test_versions), cmocka_unit_test(test_against_the_definition),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
