/* The E-step against a double reference and the golden fixtures; sparsity, novelty and blocks. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "proto/covariance.h"
#include "worker/estep.h"
#include "tests/unit/kernels_each.h"

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static const struct estep_options dense = {.top = 0};

/* ---- fixtures ---- */

/* Of component k, or of the one that all share. */
static const float *whitening_of(const struct mixture_view *v, size_t k)
{
    return v->variance + k * covariance_width(v->covariance, v->D);
}

static bool is_matrix(const struct mixture_view *v)
{
    return v->covariance == COVARIANCE_FULL || v->covariance == COVARIANCE_TIED;
}

static double log_det(const struct mixture_view *v, size_t k)
{
    double sum = 0;
    for (size_t d = 0; d < v->D; d++)
        sum += log(whitening_of(v, k)[d * v->D + d]);
    return sum;
}

/* Of von Mises-Fisher components: any number will do here, the server's tests hold the right one. */
static double normaliser(const struct mixture_view *v, size_t k)
{
    return v->covariance == COVARIANCE_VMF    ? -1 / (double)v->variance[k] - (double)(k % 3)
           : v->covariance == COVARIANCE_FULL ? log_det(v, k)
                                              : 0;
}

/* W (D,D) of V (D,D): the inverse of its Cholesky factor, by the textbook. Returns log det W. */
static double whiten(const double *V, size_t D, float *W)
{
    double L[16 * 16] = {0}, log_det = 0;
    assert_true(D <= 16);
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j <= i; j++) {
            double x = V[i * D + j];
            for (size_t k = 0; k < j; k++)
                x -= L[i * D + k] * L[j * D + k];
            L[i * D + j] = i == j ? sqrt(x) : x / L[j * D + j];
        }
    for (size_t j = 0; j < D; j++)
        for (size_t i = 0; i < D; i++) {
            double x = i == j;
            for (size_t k = j; k < i; k++)
                x -= L[i * D + k] * W[k * D + j];
            W[i * D + j] = i < j ? 0 : (float)(x / L[i * D + i]);
        }
    for (size_t i = 0; i < D; i++)
        log_det += log(W[i * D + i]);
    return log_det;
}

static void set_constants(struct mixture_view *v)
{
    bool spherical = v->covariance == COVARIANCE_SPHERICAL;
    bool by_dimension = spherical || v->covariance == COVARIANCE_DIAGONAL;
    for (size_t k = 0; k < v->K; k++) {
        double c = log(v->weight[k]) + normaliser(v, k);
        for (size_t d = 0; d < v->D && by_dimension; d++) {
            double mean = v->mean[k * v->D + d], variance = v->variance[spherical ? k : k * v->D + d];
            c -= 0.5 * (log(variance) + mean * mean / variance);
        }
        v->log_const[k] = (float)c;
    }
}

static struct mixture_view *random_mixture(uint32_t K, uint32_t D, enum covariance c, double beta)
{
    struct mixture_view *v;
    struct rng r;
    assert_int_equal(mixture_view_new(K, D, c, &v), 0);
    rng_open(&r, 11, RNG_MIXTURE, K, D, c);
    for (size_t i = 0; i < (size_t)K * D; i++)
        v->mean[i] = (float)(rng_normal(&r) / sqrt(D));
    for (size_t i = 0; i < K * covariance_width(c, D) + covariance_shared_width(c, D); i++)
        v->variance[i] = (0.5f + rng_uniform(&r)) / (float)D;
    for (size_t k = 0; k < K; k++)
        v->weight[k] = 1 / (float)K;
    size_t matrices = c == COVARIANCE_FULL ? K : c == COVARIANCE_TIED ? 1 : 0;
    for (size_t k = 0; k < matrices; k++)
        for (size_t i = 0; i < (size_t)D * D; i++) { /* a lower triangle, about as wide */
            float x = v->variance[k * D * D + i] * (float)D * sqrtf((float)D);
            v->variance[k * D * D + i] = i % D > i / D ? 0 : i % D == i / D ? x : x - sqrtf((float)D);
        }
    v->version = 1;
    v->beta = beta;
    set_constants(v);
    return v;
}

static float *random_rows(uint32_t N, uint32_t D, uint64_t seed)
{
    float *h = malloc(((size_t)N * D + 1) * sizeof *h);
    struct rng r;
    rng_open(&r, seed, RNG_JITTER, N, D, 0);
    for (size_t i = 0; i < (size_t)N * D; i++)
        h[i] = (float)rng_normal(&r);
    vec_normalise_rows(h, N, D, NULL);
    return h;
}

/* ---- the slow reference, in double, from the definitions ---- */

static double log_density(const struct mixture_view *v, const float *h, size_t k)
{
    double l = log(v->weight[k]) + v->price[k];
    if (v->covariance == COVARIANCE_VMF) {
        for (size_t d = 0; d < v->D; d++)
            l += (double)h[d] * v->mean[k * v->D + d] / v->variance[k];
        return l + normaliser(v, k);
    }
    for (size_t i = 0; i < v->D && is_matrix(v); i++) {
        double y = 0;
        for (size_t d = 0; d <= i; d++)
            y += (double)whitening_of(v, k)[i * v->D + d] * ((double)h[d] - v->mean[k * v->D + d]);
        l -= 0.5 * (y * y + log(2 * M_PI));
    }
    if (is_matrix(v))
        return l + log_det(v, k);
    for (size_t d = 0; d < v->D; d++) {
        double variance = v->variance[v->covariance == COVARIANCE_SPHERICAL ? k : k * v->D + d];
        double distance = h[d] - v->mean[k * v->D + d];
        l -= 0.5 * (distance * distance / variance + log(2 * M_PI * variance));
    }
    return l;
}

/* gamma (K) dense; returns log p(h). */
static double reference_row(const struct mixture_view *v, const float *h, uint32_t top, double *gamma)
{
    double max = -INFINITY, evidence = 0, total = 0;
    for (size_t k = 0; k < v->K; k++)
        max = fmax(max, gamma[k] = log_density(v, h, k));
    for (size_t k = 0; k < v->K; k++) {
        evidence += exp(gamma[k] - max);
        gamma[k] = exp(v->beta * (gamma[k] - max));
    }
    for (size_t k = 0; k < v->K; k++) {
        size_t larger = 0;
        for (size_t j = 0; j < v->K; j++)
            larger += fabs(gamma[j]) > gamma[k];
        if (top > 0 && larger >= top)
            gamma[k] = -gamma[k]; /* marked, still compared with */
    }
    for (size_t k = 0; k < v->K; k++)
        total += gamma[k] = fmax(gamma[k], 0);
    for (size_t k = 0; k < v->K; k++)
        gamma[k] /= total;
    return max + log(evidence);
}

static void dense_row(const struct responsibilities *g, uint32_t i, uint32_t K, double *out)
{
    memset(out, 0, K * sizeof *out);
    double sum = 0;
    for (uint32_t z = g->start[i]; z < g->start[i + 1]; z++) {
        assert_true(g->index[z] < K && (z == g->start[i] || g->index[z] > g->index[z - 1]));
        sum += out[g->index[z]] = g->gamma[z];
    }
    assert_near(sum, 1, 1e-5);
}

static void compare(const struct mixture_view *v, const float *h, uint32_t N, struct estep_options o, double tolerance)
{
    struct estep *s;
    struct estep_result got;
    double *want = calloc(v->K, sizeof *want), *row = calloc(v->K, sizeof *row), loglik = 0;
    assert_int_equal(estep_new(N, v->K, v->D, o, &s), 0);
    estep_use(s, v);
    estep_run(s, h, N, &got);
    assert_int_equal(got.gamma.N, N);
    for (uint32_t i = 0; i < N; i++) {
        loglik += reference_row(v, h + (size_t)i * v->D, o.top, want);
        dense_row(&got.gamma, i, v->K, row);
        for (uint32_t k = 0; k < v->K; k++)
            if (fabs(row[k] - want[k]) > tolerance)
                fail_msg("row %u component %u: %g, expected %g", i, k, row[k], want[k]);
        for (uint32_t k = 0; k < v->K; k++)
            assert_true(want[k] <= want[got.extra.assigned[i]] + tolerance);
    }
    assert_near(got.extra.loglik / N, loglik / N, 1e-4);
    estep_free(&s);
    assert_null(s);
    free(want);
    free(row);
}

/* ---- cases ---- */

static void test_no_rows(void **state)
{
    (void)state;
    struct mixture_view *v = random_mixture(4, 3, COVARIANCE_DIAGONAL, 1);
    struct estep *s;
    struct estep_result got;
    float none = 0;
    assert_int_equal(estep_new(2, 4, 3, (struct estep_options){.novel_max = 2}, &s), 0);
    estep_use(s, v);
    estep_run(s, &none, 0, &got);
    assert_int_equal(got.gamma.N, 0);
    assert_int_equal(got.extra.V, 0);
    assert_true(got.extra.loglik == 0 && got.extra.dropped == 0);
    estep_free(&s);
    mixture_view_free(&v);
}

static void against_reference(uint32_t N, uint32_t K, uint32_t D, enum covariance c, double beta, uint32_t top)
{
    struct mixture_view *v = random_mixture(K, D, c, beta);
    float *h = random_rows(N, D, 5);
    compare(v, h, N, (struct estep_options){.top = top, .covariance = c}, 2e-5);
    free(h);
    mixture_view_free(&v);
}

static void test_reference(void **state)
{
    (void)state;
    against_reference(1, 1, 1, COVARIANCE_DIAGONAL, 1, 0);
    against_reference(33, 50, 7, COVARIANCE_DIAGONAL, 1, 0);
    against_reference(33, 50, 7, COVARIANCE_SPHERICAL, 0.5, 0);
    against_reference(33, 50, 7, COVARIANCE_VMF, 0.5, 0);
    against_reference(300, 1100, 24, COVARIANCE_VMF, 0.8, 5);
    against_reference(33, 50, 7, COVARIANCE_FULL, 0.5, 0);
    against_reference(300, 250, 12, COVARIANCE_FULL, 0.8, 5); /* three tiles */
    against_reference(33, 50, 7, COVARIANCE_TIED, 0.5, 0);
    against_reference(300, 1100, 12, COVARIANCE_TIED, 0.8, 5);
    against_reference(16, 50, 7, COVARIANCE_DIAGONAL, 0.7, 3);
    against_reference(16, 5, 7, COVARIANCE_DIAGONAL, 0.7, 5);
    against_reference(300, 1100, 24, COVARIANCE_DIAGONAL, 0.8, 0); /* two blocks of rows, two tiles of components */
}

/* A price counts like the logarithm of a weight, and only in the mixture that has it. */
static void test_prices(void **state)
{
    (void)state;
    struct mixture_view *v = random_mixture(1030, 5, COVARIANCE_DIAGONAL, 0.8);
    float *h = random_rows(20, 5, 5);
    v->priced = true;
    for (uint32_t k = 0; k < v->K; k++)
        v->price[k] = (float)(k % 7) - 3;
    compare(v, h, 20, dense, 2e-5);
    free(h);
    mixture_view_free(&v);
}

static void read_rows(const json_t *rows, uint32_t R, uint32_t D, float *out)
{
    for (size_t i = 0; i < R; i++)
        for (size_t d = 0; d < D; d++)
            out[i * D + d] = (float)json_number_value(json_array_get(json_array_get(rows, i), d));
}

/* Of a matrix, or of a multiple of the unit matrix where there is none. */
static void golden_whitening(const json_t *matrix, double otherwise, size_t D, float *W)
{
    double V[16 * 16];
    for (size_t i = 0; i < D * D; i++)
        V[i] = matrix ? json_number_value(json_array_get(json_array_get(matrix, i / D), i % D))
                      : (i / D == i % D) * otherwise;
    whiten(V, D, W);
}

/* The mixture as it stands before a step: of the previous step's expectation, or of the start. */
static void golden_mixture(const json_t *root, const json_t *before, struct mixture_view *v)
{
    double mass = 0, s0 = json_number_value(json_object_get(root, "sigma0sq"));
    bool count = strcmp(json_string_value(json_object_get(root, "prior")), "count") == 0;
    const json_t *var = before ? json_object_get(before, "var") : NULL;
    size_t width = covariance_width(v->covariance, v->D); /* the fixtures have D in every form */
    read_rows(json_object_get(before ? before : root, before ? "mu" : "mu0"), v->K, v->D, v->mean);
    for (size_t k = 0; k < v->K && v->covariance == COVARIANCE_FULL; k++)
        golden_whitening(json_array_get(var, k), s0 + json_number_value(json_object_get(root, "floor")), v->D,
                         v->variance + k * width);
    for (size_t i = 0; i < v->K * width && v->covariance != COVARIANCE_FULL; i++)
        v->variance[i] =
            before ? (float)json_number_value(json_array_get(json_array_get(var, i / width), i % width)) : (float)s0;
    for (size_t k = 0; k < v->K; k++)
        mass += v->weight[k] =
            before && count ? (float)json_number_value(json_array_get(json_object_get(before, "N"), k)) : 1;
    for (size_t k = 0; k < v->K; k++)
        v->weight[k] /= (float)mass;
    set_constants(v);
    const json_t *log_norm = json_object_get(before ? before : root, before ? "log_norm" : "log_norm0");
    for (size_t k = 0; log_norm && k < v->K; k++)
        v->log_const[k] = (float)(log(v->weight[k]) + json_number_value(json_array_get(log_norm, k)));
}

static void golden_step(const struct mixture_view *v, const json_t *step, uint32_t N, uint32_t top)
{
    struct estep *s;
    struct estep_result got;
    const json_t *expect = json_object_get(step, "expect"), *resp = json_object_get(expect, "resp");
    float *h = malloc((size_t)N * v->D * sizeof *h);
    double *row = calloc(v->K, sizeof *row);
    read_rows(json_object_get(step, "H"), N, v->D, h);
    assert_int_equal(estep_new(N, v->K, v->D, (struct estep_options){.top = top, .covariance = v->covariance}, &s), 0);
    estep_use(s, v);
    estep_run(s, h, N, &got);
    for (uint32_t i = 0; i < N; i++) {
        dense_row(&got.gamma, i, v->K, row);
        for (uint32_t k = 0; k < v->K; k++)
            assert_near(row[k], json_number_value(json_array_get(json_array_get(resp, i), k)), 2e-5);
    }
    double loglik = got.extra.loglik / N + (v->covariance == COVARIANCE_VMF ? 0 : v->D / 2.0 * log(2 * M_PI));
    assert_near(loglik, json_number_value(json_object_get(expect, "mean_loglik")), 2e-5);
    estep_free(&s);
    free(h);
    free(row);
}

static void golden(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "tests/golden/%s.json", name);
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    uint32_t K = (uint32_t)json_integer_value(json_object_get(root, "K"));
    uint32_t D = (uint32_t)json_integer_value(json_object_get(root, "D"));
    uint32_t N = (uint32_t)json_integer_value(json_object_get(root, "N"));
    uint32_t top = (uint32_t)json_integer_value(json_object_get(root, "topm"));
    const json_t *steps = json_object_get(root, "steps"), *before = NULL;
    struct mixture_view *v;
    const char *cov = json_string_value(json_object_get(root, "cov"));
    enum covariance c = strcmp(cov, "vmf") == 0    ? COVARIANCE_VMF
                        : strcmp(cov, "full") == 0 ? COVARIANCE_FULL
                                                   : COVARIANCE_DIAGONAL;
    assert_int_equal(mixture_view_new(K, D, c, &v), 0);
    assert_true(json_array_size(steps) > 1);
    for (size_t t = 0; t < json_array_size(steps); t++) {
        const json_t *step = json_array_get(steps, t);
        golden_mixture(root, before, v);
        v->beta = json_number_value(json_object_get(step, "beta"));
        v->version = t;
        golden_step(v, step, N, top);
        before = json_object_get(step, "expect");
    }
    mixture_view_free(&v);
    json_decref(root);
}

static void test_golden(void **state)
{
    (void)state;
    static const char *const names[] = {
        "em_diag_K5_D3_N16",         "em_diag_K5_D3_N16_top4",   "em_diag_K5_D3_N16_prior-count",  "em_sph_K5_D3_N16",
        "em_diag_K32_D8_N64",        "em_diag_K32_D8_N64_top4",  "em_diag_K32_D8_N64_prior-count", "em_sph_K32_D8_N64",
        "em_diag_K32_D8_N64_reseed", "em_vmf_K5_D3_N16",         "em_vmf_K32_D8_N64_reseed",       "em_full_K5_D3_N16",
        "em_full_K32_D8_N64",        "em_full_K32_D8_N64_reseed"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        golden(names[i]);
}

/* scikit-learn's mixtures of the same parameters: responsibilities, and the log-likelihood of each row. */
static void check_sklearn(const json_t *root, const char *form, enum covariance c)
{
    const json_t *f = json_object_get(json_object_get(root, "forms"), form), *resp = json_object_get(f, "resp");
    uint32_t K = (uint32_t)json_integer_value(json_object_get(root, "K"));
    uint32_t D = (uint32_t)json_integer_value(json_object_get(root, "D"));
    uint32_t N = (uint32_t)json_integer_value(json_object_get(root, "N"));
    const json_t *V = json_object_get(f, "covariances");
    float *h = malloc((size_t)N * D * sizeof *h);
    double *row = calloc(K, sizeof *row);
    struct mixture_view *v;
    struct estep *s;
    struct estep_result got;
    assert_int_equal(mixture_view_new(K, D, c, &v), 0);
    read_rows(json_object_get(root, "H"), N, D, h);
    read_rows(json_object_get(root, "means"), K, D, v->mean);
    for (size_t k = 0; k < K; k++) {
        const json_t *of_k = json_array_get(V, k);
        v->weight[k] = (float)json_number_value(json_array_get(json_object_get(root, "weights"), k));
        if (c == COVARIANCE_FULL)
            golden_whitening(of_k, 0, D, v->variance + k * D * D);
        if (c == COVARIANCE_TIED)
            golden_whitening(V, 0, D, v->variance);
        for (size_t d = 0; d < covariance_width(c, D) && c != COVARIANCE_FULL; d++)
            v->variance[k * covariance_width(c, D) + d] =
                (float)json_number_value(c == COVARIANCE_SPHERICAL ? of_k : json_array_get(of_k, d));
    }
    v->beta = 1;
    set_constants(v);
    assert_int_equal(estep_new(1, K, D, (struct estep_options){.covariance = c}, &s), 0);
    estep_use(s, v);
    for (uint32_t i = 0; i < N; i++) {
        estep_run(s, h + (size_t)i * D, 1, &got);
        dense_row(&got.gamma, 0, K, row);
        for (uint32_t k = 0; k < K; k++)
            assert_near(row[k], json_number_value(json_array_get(json_array_get(resp, i), k)), 1e-5);
        double want = json_number_value(json_array_get(json_object_get(f, "loglik"), i));
        assert_near(got.extra.loglik, want, 1e-5 * fmax(1, fabs(want)));
    }
    estep_free(&s);
    mixture_view_free(&v);
    free(h);
    free(row);
}

static void test_sklearn(void **state)
{
    (void)state;
    json_t *root = json_load_file("tests/golden/em_sklearn.json", 0, NULL);
    assert_non_null(root);
    check_sklearn(root, "spherical", COVARIANCE_SPHERICAL);
    check_sklearn(root, "diag", COVARIANCE_DIAGONAL);
    check_sklearn(root, "full", COVARIANCE_FULL);
    check_sklearn(root, "tied", COVARIANCE_TIED);
    json_decref(root);
}

static void test_drop_renormalises_and_reports(void **state)
{
    (void)state;
    const uint32_t N = 20, K = 40, D = 6;
    struct mixture_view *v = random_mixture(K, D, COVARIANCE_DIAGONAL, 1);
    float *h = random_rows(N, D, 6);
    double want[40], row[40], dropped = 0;
    struct estep *s;
    struct estep_result got;
    assert_int_equal(estep_new(N, K, D, (struct estep_options){.drop = 0.01f}, &s), 0);
    estep_use(s, v);
    estep_run(s, h, N, &got);
    for (uint32_t i = 0; i < N; i++) {
        double kept = 0;
        reference_row(v, h + i * D, 0, want);
        dense_row(&got.gamma, i, K, row);
        for (uint32_t k = 0; k < K; k++)
            kept += want[k] < 0.01 ? 0 : want[k];
        for (uint32_t k = 0; k < K; k++)
            assert_near(row[k], want[k] < 0.01 ? 0 : want[k] / kept, 2e-5);
        dropped += 1 - kept;
    }
    assert_true(dropped > 0.1);
    assert_near(got.extra.dropped, dropped, 1e-4);
    estep_free(&s);
    free(h);
    mixture_view_free(&v);
}

static void test_ties_go_to_the_lower_index(void **state)
{
    (void)state;
    struct mixture_view *v = random_mixture(6, 4, COVARIANCE_DIAGONAL, 1);
    float *h = random_rows(3, 4, 8);
    for (size_t k = 1; k < 6; k++) { /* six copies of one component */
        memcpy(v->mean + 4 * k, v->mean, 4 * sizeof(float));
        memcpy(v->variance + 4 * k, v->variance, 4 * sizeof(float));
    }
    set_constants(v);
    struct estep *s;
    struct estep_result got;
    assert_int_equal(estep_new(3, 6, 4, (struct estep_options){.top = 2}, &s), 0);
    estep_use(s, v);
    estep_run(s, h, 3, &got);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(got.gamma.start[i + 1], 2 * (i + 1));
        assert_int_equal(got.gamma.index[2 * i], 0);
        assert_int_equal(got.gamma.index[2 * i + 1], 1);
        assert_near(got.gamma.gamma[2 * i], 0.5, 1e-6);
        assert_int_equal(got.extra.assigned[i], 0);
    }
    assert_near(got.extra.dropped, 3 * 4.0 / 6, 1e-5);
    estep_free(&s);
    free(h);
    mixture_view_free(&v);
}

/* Far rows underflow: one responsibility of exactly 1 remains, nothing is NaN. */
static void test_extreme_logits(void **state)
{
    (void)state;
    struct mixture_view *v = random_mixture(64, 32, COVARIANCE_DIAGONAL, 1);
    float *h = random_rows(8, 32, 9);
    for (size_t i = 0; i < 64 * 32; i++)
        v->variance[i] = 1e-3f;
    set_constants(v);
    struct estep *s;
    struct estep_result got;
    assert_int_equal(estep_new(8, 64, 32, (struct estep_options){.drop = 1e-6f}, &s), 0);
    estep_use(s, v);
    estep_run(s, h, 8, &got);
    assert_true(isfinite(got.extra.loglik));
    assert_in_range(got.gamma.start[8], 8, 40);
    estep_free(&s);
    free(h);
    mixture_view_free(&v);
}

static void test_version_is_loaded_once(void **state)
{
    (void)state;
    struct mixture_view *v = random_mixture(5, 3, COVARIANCE_DIAGONAL, 1);
    struct estep *s;
    assert_int_equal(estep_new(2, 5, 3, dense, &s), 0);
    estep_use(s, v);
    float first = estep_prototypes(s)[0];
    assert_near(vec_sum_squares(estep_prototypes(s), 3), 1, 1e-6);
    v->mean[0] += 1;
    estep_use(s, v); /* the same version: by contract the same content, not read again */
    assert_true(estep_prototypes(s)[0] == first);
    v->version++;
    estep_use(s, v);
    assert_true(estep_prototypes(s)[0] != first);
    estep_free(&s);
    mixture_view_free(&v);
}

static void assert_same_results(const struct estep_result *a, const struct estep_result *b, uint32_t N, uint32_t D)
{
    uint32_t Z = a->gamma.start[N];
    assert_memory_equal(a->gamma.start, b->gamma.start, (N + 1) * sizeof *a->gamma.start);
    assert_memory_equal(a->gamma.index, b->gamma.index, Z * sizeof *a->gamma.index);
    assert_memory_equal(a->gamma.gamma, b->gamma.gamma, Z * sizeof *a->gamma.gamma);
    assert_memory_equal(a->extra.assigned, b->extra.assigned, N * sizeof *a->extra.assigned);
    assert_true(a->extra.loglik == b->extra.loglik && a->extra.dropped == b->extra.dropped);
    assert_int_equal(a->extra.V, b->extra.V);
    assert_memory_equal(a->extra.novel, b->extra.novel, a->extra.V * D * sizeof(float));
    assert_memory_equal(a->extra.novel_distance, b->extra.novel_distance, a->extra.V * sizeof(float));
}

/* Moves every `every`th component in version 3, then a few in version 5, and compares with a fresh E-step. */
static void check_moved(enum covariance c, uint32_t every)
{
    enum { K = 1100, D = 9, N = 40 }; /* two tiles */
    struct estep_options o = {.drop = 1e-6f, .novel_max = N, .novel_distance = 0.1f, .covariance = c};
    struct mixture_view *v = random_mixture(K, D, c, 1);
    struct estep *held, *fresh;
    struct estep_result got, want;
    float *h = random_rows(N, D, 5);
    assert_int_equal(mixture_view_keep_moved(v), 0);
    assert_int_equal(estep_new(N, K, D, o, &held), 0);
    assert_int_equal(estep_new(N, K, D, o, &fresh), 0);
    estep_use(held, v);
    for (uint32_t k = 3; k < K; k += every) {
        v->moved[k] = k % 2 ? 3 : 5;
        v->mean[k * D + k % D] += 0.7f;
    }
    v->price[11] = 2; /* of a component that does not move */
    v->version = 5;
    set_constants(v);
    estep_use(held, v);
    estep_use(fresh, v);
    estep_run(held, h, N, &got);
    estep_run(fresh, h, N, &want);
    assert_same_results(&got, &want, N, D);
    assert_true(want.extra.V > 0 && want.extra.V < N);
    assert_memory_equal(estep_prototypes(held), estep_prototypes(fresh), K * D * sizeof(float));
    v->version = 2; /* gone back: nothing that is held can be relied upon */
    v->mean[0] += 0.5f;
    set_constants(v);
    estep_use(held, v);
    assert_true(estep_prototypes(held)[0] != estep_prototypes(fresh)[0]);
    estep_free(&held);
    estep_free(&fresh);
    free(h);
    mixture_view_free(&v);
}

static void test_moved_components_alone(void **state)
{
    (void)state;
    for (int c = COVARIANCE_SPHERICAL; c <= COVARIANCE_TIED; c++) {
        check_moved((enum covariance)c, 97);
        check_moved((enum covariance)c, 2);
    }
}

/* Rows beside prototypes, and far from all; many more of the former, as in training: each distance is that of the
 * nearest prototype, though few rows have met all of them. */
static void test_novelty_finds_the_nearest(void **state)
{
    (void)state;
    enum { K = 700, D = 12, N = 300 };
    struct mixture_view *v = random_mixture(K, D, COVARIANCE_DIAGONAL, 1);
    struct estep *s;
    struct estep_result got;
    float *h = random_rows(N, D, 5);
    uint32_t far = 0;
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t d = 0; d < D && i % 10 != 0; d++)
            h[i * D + d] = v->mean[i * D + d] + 0.02f * h[i * D + d];
    vec_normalise_rows(h, N, D, NULL);
    assert_int_equal(estep_new(N, K, D, (struct estep_options){.novel_max = N, .novel_distance = 0.05f}, &s), 0);
    estep_use(s, v);
    estep_run(s, h, N, &got);
    for (uint32_t i = 0; i < N; i++) {
        double nearest = -1;
        for (uint32_t k = 0; k < K; k++)
            nearest = fmax(nearest, vec_dot(h + i * D, estep_prototypes(s) + k * D, D));
        far += 1 - nearest >= 0.05;
        for (uint32_t j = 0; j < got.extra.V; j++)
            if (memcmp(got.extra.novel + j * D, h + i * D, D * sizeof *h) == 0)
                assert_near(got.extra.novel_distance[j], 1 - nearest, 1e-6);
    }
    assert_in_range(far, 1, N / 5);
    assert_int_equal(got.extra.V, far);
    estep_free(&s);
    free(h);
    mixture_view_free(&v);
}

/* Two prototypes on the axes; rows at known angles. */
static void run_novelty(struct estep_options o, const float *h, uint32_t N, uint32_t V, const uint32_t *rows,
                        const double *distances)
{
    struct mixture_view *v = random_mixture(2, 2, COVARIANCE_DIAGONAL, 1);
    memcpy(v->mean, (float[]){0.5f, 0, 0, 2}, 4 * sizeof(float));
    set_constants(v);
    struct estep *s;
    struct estep_result got;
    assert_int_equal(estep_new(N, 2, 2, o, &s), 0);
    estep_use(s, v);
    estep_run(s, h, N, &got);
    assert_int_equal(got.extra.V, V);
    for (uint32_t i = 0; i < V; i++) {
        assert_memory_equal(got.extra.novel + 2 * i, h + 2 * rows[i], 2 * sizeof(float));
        assert_near(got.extra.novel_distance[i], distances[i], 1e-6);
    }
    estep_free(&s);
    mixture_view_free(&v);
}

static void test_novelty(void **state)
{
    (void)state;
    static const float h[] = {1, 0, -1, 0, 0.6f, 0.8f, -0.6f, 0.8f, -1, 0, 0, -1};
    static const uint32_t rows[] = {1, 4, 5, 2, 3};
    static const double distances[] = {1, 1, 1, 0.2, 0.2};
    run_novelty((struct estep_options){.novel_max = 8, .novel_distance = 0.1f}, h, 6, 5, rows, distances);
    run_novelty((struct estep_options){.novel_max = 2, .novel_distance = 0.1f}, h, 6, 2, rows, distances);
    run_novelty((struct estep_options){.novel_max = 8, .novel_distance = 0.5f}, h, 6, 3, rows, distances);
    run_novelty((struct estep_options){.novel_max = 8, .novel_distance = 1.5f}, h, 6, 0, rows, distances);
    run_novelty((struct estep_options){.novel_max = 0, .novel_distance = 0}, h, 6, 0, rows, distances);
    static const uint32_t first[] = {1, 2, 3, 4, 5};
    static const double theirs[] = {1, 0.2, 0.2, 1, 1};
    struct estep_options o = {.novel_max = 8, .novel_distance = 0.1f, .choice = RESEED_RANDOM};
    run_novelty(o, h, 6, 5, first, theirs);
    o.novel_max = 2;
    run_novelty(o, h, 6, 2, first, theirs);
}

int main(void)
{
    compute_thread_init();
    blas_single_threaded();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_rows),
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_sklearn),
        cmocka_unit_test(test_drop_renormalises_and_reports),
        cmocka_unit_test(test_ties_go_to_the_lower_index),
        cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_version_is_loaded_once),
        cmocka_unit_test(test_novelty),
        cmocka_unit_test(test_novelty_finds_the_nearest),
        cmocka_unit_test(test_moved_components_alone),
    };
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
