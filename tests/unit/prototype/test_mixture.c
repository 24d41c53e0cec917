/* The mixture against the float64 fixtures (tests/golden/em_*): whole batches, batches split over slots, and the
 * corners. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/cosine.h"
#include "common/vecmath.h"
#include "proto/covariance.h"
#include "server/prototype/diagnostics.h"
#include "server/prototype/mixture.h"

/* Statistics arrive as floats: each gamma and h carries 6e-8, their products' sums of 64 about 1e-6. Variances are
 * differences of near-equal terms of size up to 1, hence the absolute part. */
static void close_to(double got, double want, const char *what)
{
    if (fabs(got - want) > 1e-5 * fabs(want) + 2e-6)
        fail_msg("%s: got %.9g, expected %.9g", what, got, want);
}

static double number(const json_t *object, const char *key, double otherwise)
{
    const json_t *v = json_object_get(object, key);
    return v ? json_number_value(v) : otherwise;
}

static double at2(const json_t *matrix, size_t i, size_t j)
{
    return json_number_value(json_array_get(json_array_get(matrix, i), j));
}

static struct mixture_options options_of(const json_t *f)
{
    const char *prior = json_string_value(json_object_get(f, "prior"));
    const char *cov = json_string_value(json_object_get(f, "cov"));
    return (struct mixture_options){
        .K = (uint32_t)number(f, "K", 0),
        .D = (uint32_t)number(f, "D", 0),
        .covariance = strcmp(cov, "sph") == 0    ? COVARIANCE_SPHERICAL
                      : strcmp(cov, "vmf") == 0  ? COVARIANCE_VMF
                      : strcmp(cov, "full") == 0 ? COVARIANCE_FULL
                                                 : COVARIANCE_DIAGONAL,
        .prior = strcmp(prior, "count") == 0 ? PRIOR_COUNT : PRIOR_UNIFORM,
        .forgetting = number(f, "eta", 0),
        .variance_floor = number(f, "floor", 0),
        .initial_mass = number(f, "n0", 0),
        .usage_momentum = number(f, "usem", 0.97),
        .reseed_usage = number(f, "reseed", 0),
        .reseed_distance = number(f, "rdist", 0.05),
        .reseed_max = (uint32_t)number(f, "rmax", 8),
    };
}

static struct mixture *start(const json_t *f)
{
    struct mixture_options o = options_of(f);
    struct mixture *m;
    assert_int_equal(mixture_new(&o, &m), 0);
    double *means = calloc((size_t)o.K * o.D, sizeof *means);
    for (size_t i = 0; i < (size_t)o.K * o.D; i++)
        means[i] = at2(json_object_get(f, "mu0"), i / o.D, i % o.D);
    assert_int_equal((int)(number(f, "sigma0sq", 0) * o.D + 0.5), 1); /* s0 = 1/D is built in */
    mixture_start_from(m, means);
    free(means);
    return m;
}

/* A slot's share of the batch: embeddings [from, to) with their responsibilities and distances. */
static struct stats_rows *slot_stats(const struct mixture *m, const json_t *step, size_t from, size_t to)
{
    uint32_t K = m->options.K, D = m->options.D, N = (uint32_t)(to - from), z = 0;
    const json_t *H = json_object_get(step, "H"), *resp = json_object_get(json_object_get(step, "expect"), "resp");
    float *h = calloc((size_t)N * D, sizeof *h), *gamma = calloc((size_t)N * K, sizeof *gamma);
    float *distance = calloc(N, sizeof *distance);
    uint32_t *start_ = calloc(N + 1, sizeof *start_), *index = calloc((size_t)N * K, sizeof *index);
    float *c = calloc((size_t)K * D, sizeof *c);
    memcpy(c, m->view->mean, (size_t)K * D * sizeof *c);
    vec_normalise_rows(c, K, D, NULL);
    for (uint32_t i = 0; i < N; i++) {
        for (uint32_t d = 0; d < D; d++)
            h[i * D + d] = (float)at2(H, from + i, d);
        for (uint32_t k = 0; k < K; k++) {
            float g = (float)at2(resp, from + i, k);
            if (g > 0) {
                index[z] = k;
                gamma[z++] = g;
            }
        }
        start_[i + 1] = z;
        float best = -2;
        for (uint32_t k = 0; k < K; k++)
            best = fmaxf(best, vec_dot(h + i * D, c + k * D, D));
        distance[i] = 1 - best;
    }
    struct stats_rows *s = malloc(sizeof *s);
    stats_rows_init(s);
    struct responsibilities g = {.N = N, .start = start_, .index = index, .gamma = gamma};
    assert_int_equal(stats_accumulate(h, &g, K, D, m->options.covariance, s), 0);
    s->V = N; /* every embedding is a candidate, so that indices are those of the fixture */
    s->novel = h;
    s->novel_distance = distance;
    s->count = N;
    free(gamma), free(start_), free(index), free(c);
    return s;
}

/* The step's statistics, as `slots` slots summed in slot order. */
static struct stats_rows *step_stats(const struct mixture *m, const json_t *step, size_t slots)
{
    size_t N = json_array_size(json_object_get(step, "H"));
    struct stats_rows *sum = slot_stats(m, step, 0, N / slots);
    for (size_t s = 1; s < slots; s++) {
        struct stats_rows *next = slot_stats(m, step, s * N / slots, (s + 1) * N / slots);
        assert_int_equal(stats_rows_add(sum, next), 0);
        stats_rows_fini(next);
        free(next);
    }
    return sum;
}

static void compare_spread(const struct mixture *m, const json_t *x, uint32_t k)
{
    uint32_t D = m->options.D;
    for (uint32_t d = 0; d < D; d++) {
        size_t i = (size_t)k * D + d;
        float v = m->view->variance[covariance_is_scalar(m->options.covariance) ? k : i];
        if (m->s2)
            close_to(m->s2[i], at2(json_object_get(x, "S2"), k, d), "S2");
        close_to((double)v, at2(json_object_get(x, "var"), k, d), "var");
    }
}

/* W V W^T = I of the fixture's V, and log det W. Elements of V carry the errors of close_to, W up to 1/sqrt(floor). */
static void compare_matrix(const struct mixture *m, const json_t *x, uint32_t k)
{
    uint32_t D = m->options.D;
    const json_t *V = json_array_get(json_object_get(x, "var"), k);
    const float *W = m->view->variance + (size_t)k * D * D;
    double log_det = 0;
    for (uint32_t i = 0; i < D; i++) {
        log_det += log((double)W[i * D + i]);
        for (uint32_t j = 0; j < D; j++) {
            double product = 0;
            close_to(m->s2[(k * D + i) * D + j], at2(json_array_get(json_object_get(x, "S2"), k), i, j), "S2");
            for (uint32_t a = 0; a < D; a++)
                for (uint32_t b = 0; b < D; b++)
                    product += (double)W[i * D + a] * at2(V, a, b) * (double)W[j * D + b];
            assert_true(fabs(product - (i == j)) < 1e-3);
        }
    }
    if (m->options.prior == PRIOR_UNIFORM)
        close_to((double)m->view->log_const[k], log_det - log(m->options.K), "log_const");
}

static void compare_row(const struct mixture *m, const json_t *x, uint32_t k)
{
    uint32_t D = m->options.D;
    double norm = 0;
    for (uint32_t d = 0; d < D; d++)
        norm += (double)m->view->mean[k * D + d] * (double)m->view->mean[k * D + d];
    close_to(m->mass[k], json_number_value(json_array_get(json_object_get(x, "N"), k)), "N");
    close_to(m->usage[k], json_number_value(json_array_get(json_object_get(x, "use"), k)), "use");
    for (uint32_t d = 0; d < D; d++) {
        size_t i = (size_t)k * D + d;
        close_to(m->s1[i], at2(json_object_get(x, "S1"), k, d), "S1");
        close_to((double)m->view->mean[i], at2(json_object_get(x, "mu"), k, d), "mu");
        close_to((double)m->view->mean[i] / sqrt(norm), at2(json_object_get(x, "proto"), k, d), "proto");
    }
    if (m->options.covariance == COVARIANCE_FULL)
        compare_matrix(m, x, k);
    else
        compare_spread(m, x, k);
}

static void compare_reseeds(const struct mixture *m, const json_t *expected)
{
    assert_int_equal(m->reseed_count, json_array_size(expected));
    for (uint32_t i = 0; i < m->reseed_count; i++) {
        assert_int_equal(m->reseeds[i].component, (int)at2(expected, i, 0));
        assert_int_equal(m->reseeds[i].candidate, (int)at2(expected, i, 1));
    }
}

static void compare_unique(const struct mixture *m, const json_t *expected)
{
    static const char *const keys[] = {"0.025", "0.1", "0.25", "0.5"};
    struct diagnostics_input in;
    uint32_t counts[DIAGNOSTICS_EPS];
    assert_int_equal(diagnostics_input_init(&in, m), 0);
    assert_true(diagnostics_input_follow(&in, m, 1, m->options.K));
    assert_int_equal(cosine_cover(in.prototypes, in.K, in.D, diagnostics_eps, DIAGNOSTICS_EPS, counts), 0);
    for (size_t i = 0; i < DIAGNOSTICS_EPS; i++)
        assert_int_equal(counts[i], lround(number(expected, keys[i], -1) * in.K));
    diagnostics_input_fini(&in);
}

/* What the E-step multiplies with, where the fixture has it. */
static void compare_constant(const struct mixture *m, const json_t *log_norm, uint32_t k)
{
    if (log_norm)
        close_to((double)m->view->log_const[k], json_number_value(json_array_get(log_norm, k)) - log(m->options.K),
                 "log_const");
}

static void replay(const char *name, size_t slots)
{
    char path[128];
    snprintf(path, sizeof path, "tests/golden/em_%s.json", name);
    json_t *f = json_load_file(path, 0, NULL);
    assert_non_null(f);
    struct mixture *m = start(f);
    const json_t *steps = json_object_get(f, "steps");
    for (size_t t = 0; t < json_array_size(steps); t++) {
        const json_t *step = json_array_get(steps, t), *x = json_object_get(step, "expect");
        struct stats_rows *s = step_stats(m, step, slots);
        assert_int_equal(mixture_em_step(m, s, 1), 0);
        for (uint32_t k = 0; k < m->options.K; k++) {
            compare_row(m, x, k);
            compare_constant(m, json_object_get(x, "log_norm"), k);
        }
        compare_reseeds(m, json_object_get(x, "reseeded"));
        stats_rows_fini(s);
        free(s);
    }
    assert_int_equal(m->view->version, json_array_size(steps));
    compare_unique(m, json_object_get(f, "unique_after"));
    mixture_free(&m);
    json_decref(f);
}

static const char *const fixtures[] = {"diag_K5_D3_N16",         "diag_K5_D3_N16_prior-count",
                                       "diag_K5_D3_N16_reseed",  "diag_K5_D3_N16_top4",
                                       "diag_K32_D8_N64",        "diag_K32_D8_N64_prior-count",
                                       "diag_K32_D8_N64_reseed", "diag_K32_D8_N64_top4",
                                       "sph_K5_D3_N16",          "sph_K32_D8_N64",
                                       "vmf_K5_D3_N16",          "vmf_K32_D8_N64_reseed",
                                       "full_K5_D3_N16",         "full_K5_D3_N16_reseed",
                                       "full_K32_D8_N64",        "full_K32_D8_N64_reseed"};

static void test_fixtures_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++)
        replay(fixtures[i], 1);
}

static void test_fixtures_over_slots(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof fixtures / sizeof fixtures[0]; i++) {
        replay(fixtures[i], 2);
        replay(fixtures[i], 4);
    }
}

static const struct mixture_options small = {.K = 4,
                                             .D = 3,
                                             .covariance = COVARIANCE_DIAGONAL,
                                             .forgetting = 0.9,
                                             .variance_floor = 1e-3,
                                             .initial_mass = 1,
                                             .usage_momentum = 0.5,
                                             .reseed_usage = 1,
                                             .reseed_distance = 0.1,
                                             .reseed_max = 1};

static void test_start_is_unit_and_seeded(void **state)
{
    (void)state;
    struct mixture *a, *b;
    assert_int_equal(mixture_new(&small, &a), 0);
    assert_int_equal(mixture_new(&small, &b), 0);
    mixture_start(a, 7);
    mixture_start(b, 7);
    assert_memory_equal(a->s1, b->s1, 12 * sizeof(double));
    mixture_start(b, 8);
    assert_true(memcmp(a->s1, b->s1, 12 * sizeof(double)) != 0);
    for (uint32_t k = 0; k < 4; k++) {
        assert_true(fabs(vec_sum_squares(a->view->mean + 3 * k, 3) - 1) < 1e-6);
        assert_true(fabs((double)a->view->variance[3 * k] - 1.0 / 3) < 1e-6);
        assert_true(a->view->weight[k] == 0.25f);
    }
    assert_int_equal(a->view->version, 0);
    mixture_free(&a);
    mixture_free(&b);
}

static void test_what_there_is_no_memory_for_is_said(void **state)
{
    (void)state;
    struct mixture_options o = small;
    struct error e;
    o.K = 1 << 20;
    o.D = 4096;
    assert_int_equal(mixture_no_memory(&o, &e), ERR_MEMORY);
    assert_non_null(strstr(e.text, "1048576 components of 4096 dimensions, 128.0 GiB"));
    assert_non_null(strstr(e.text, "mixture.components"));
}

/* No embedding at all: a version passes and nothing else changes. */
static void test_empty_step_forgets_nothing(void **state)
{
    (void)state;
    struct mixture *m;
    struct stats_rows s;
    assert_int_equal(mixture_new(&small, &m), 0);
    mixture_start(m, 1);
    stats_rows_init(&s);
    s.K = 4;
    s.D = 3;
    double mass = m->mass[2], usage = m->usage[2];
    assert_int_equal(mixture_em_step(m, &s, 0.5), 0);
    assert_int_equal(m->view->version, 1);
    assert_int_equal(m->changed_count, 0);
    assert_true(m->mass[2] == mass && m->usage[2] == usage && m->view->beta == 0.5);
    mixture_free(&m);
}

/* One row touched: it alone is listed as changed, the others' bits stay, and all usages decay. */
static void test_only_touched_rows_change(void **state)
{
    (void)state;
    struct mixture *m;
    uint32_t index = 2, assigned = 2;
    float n = 1, s1[3] = {0, 0, 1}, s2[3] = {0, 0, 1};
    struct stats_rows s = {.K = 4,
                           .D = 3,
                           .R = 1,
                           .index = &index,
                           .n = &n,
                           .s1 = s1,
                           .s2 = s2,
                           .A = 1,
                           .assigned = &assigned,
                           .count = 1};
    assert_int_equal(mixture_new(&small, &m), 0);
    mixture_start(m, 1);
    double before = m->s1[0];
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    assert_int_equal(m->changed_count, 1);
    assert_int_equal(m->changed[0], 2);
    assert_true(m->s1[0] == before);
    assert_true(fabs(m->mass[2] - 1.9) < 1e-12);
    assert_true(fabs(m->usage[2] - 0.625) < 1e-12 && fabs(m->usage[0] - 0.125) < 1e-12);
    assert_true(fabs(mixture_active_percent(m, 1) - 25) < 1e-12);
    mixture_free(&m);
}

/* Both forms, of a component that receives a quarter of the step's embeddings. */
static void test_forms_of_forgetting(void **state)
{
    (void)state;
    uint32_t index = 2;
    float n = 1, s1[3] = {0, 0.6f, 0.8f}, s2[3] = {0, 0.36f, 0.64f};
    struct stats_rows s = {.K = 4, .D = 3, .R = 1, .index = &index, .n = &n, .s1 = s1, .s2 = s2, .count = 4};
    for (int form = FORGETTING_MASS; form <= FORGETTING_CONVEX; form++) {
        struct mixture_options o = small;
        struct mixture *m;
        o.form = form;
        o.initial_mass = 8;
        assert_int_equal(mixture_new(&o, &m), 0);
        mixture_start(m, 1);
        double lambda = form == FORGETTING_MASS ? 0.9 : pow(0.9, 0.25), take = form == FORGETTING_MASS ? 1 : 1 - lambda;
        double S1 = m->s1[2 * 3 + 1], S2 = m->s2[2 * 3 + 1], other = m->s1[0];
        assert_int_equal(mixture_em_step(m, &s, 1), 0);
        assert_true(fabs(m->mass[2] - (lambda * 8 + take)) < 1e-12);
        assert_true(fabs(m->s1[2 * 3 + 1] - (lambda * S1 + take * (double)0.6f)) < 1e-12);
        assert_true(fabs(m->s2[2 * 3 + 1] - (lambda * S2 + take * (double)0.36f)) < 1e-12);
        assert_true(m->mass[0] == 8 && m->s1[0] == other);
        mixture_free(&m);
    }
}

/* Convex: with the same shares at every step N_k tends to them, where mass tends to 1/(1 - eta^n), however large n
 * is. */
static void test_convex_masses_are_weights(void **state)
{
    (void)state;
    struct mixture_options o = small;
    o.form = FORGETTING_CONVEX;
    o.prior = PRIOR_COUNT;
    o.forgetting = 0.01;
    o.reseed_usage = 0;
    uint32_t index[4] = {0, 1, 2, 3};
    float n[4] = {1, 2, 4, 9}, s1[12] = {0}, s2[12];
    struct mixture *m;
    for (int i = 0; i < 12; i++)
        s2[i] = n[i / 3] / 3;
    struct stats_rows s = {.K = 4, .D = 3, .R = 4, .index = index, .n = n, .s1 = s1, .s2 = s2, .count = 16};
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 1);
    for (int t = 0; t < 100; t++)
        assert_int_equal(mixture_em_step(m, &s, 1), 0);
    for (int k = 0; k < 4; k++) {
        assert_true(fabs((double)m->view->weight[k] - (double)n[k] / 16) < 1e-6);
        assert_true(fabs((double)m->view->variance[3 * k] - 1.0 / 3) < 1e-6);
    }
    mixture_free(&m);
}

/* A component that sees one direction only is as narrow as the floor allows; one whose embeddings cancel has the whole
 * sphere; a fresh one is as wide as a fresh Gaussian. */
static void test_vmf_bounds(void **state)
{
    (void)state;
    struct mixture_options o = small;
    o.covariance = COVARIANCE_VMF;
    o.forgetting = 0.01;
    struct mixture *m, *copy;
    uint32_t index[2] = {0, 1};
    float n[2] = {16, 16}, s1[6] = {0, 16, 0, 0, 0, 0};
    struct stats_rows s = {.K = 4, .D = 3, .R = 2, .index = index, .n = n, .s1 = s1, .count = 32};
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 3);
    assert_null(m->s2);
    assert_true(fabs((double)m->view->variance[2] - 1.0 / 3) < 1e-6);
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    for (int d = 0; d < 3; d++) {
        m->s1[d] = 0; /* what is left of the start */
        m->s1[3 + d] = 0;
    }
    m->s1[1] = m->mass[0];
    assert_int_equal(mixture_clone(m, &copy), 0);
    mixture_restore(copy, 1);
    assert_true(copy->view->variance[0] == 1e-3f && copy->view->mean[1] == 1);
    assert_true(copy->view->variance[1] == 1e3f && copy->view->mean[3] == 0);
    assert_true(fabs((double)copy->view->log_const[1] + log(4 * M_PI) + log(4)) < 1e-5); /* the sphere's area, 1/K */
    mixture_free(&copy);
    mixture_free(&m);
}

static void test_perplexity_counts_even_use(void **state)
{
    (void)state;
    double even[4] = {1, 1, 1, 1}, one[4] = {0, 1, 0, 0};
    assert_true(fabs(mixture_usage_perplexity(even, 4) - 4) < 1e-9);
    assert_true(fabs(mixture_usage_perplexity(one, 4) - 1) < 1e-9);
}

static void test_beta_schedule(void **state)
{
    (void)state;
    struct run_config c = {.mixture = {.beta_start = 0.25, .beta_end = 1, .beta_fraction = 0.5}};
    assert_true(mixture_beta(&c, 0, 0) == 0.25);
    assert_true(fabs(mixture_beta(&c, 25, 100) - 0.5) < 1e-12);
    assert_true(mixture_beta(&c, 50, 100) == 1 && mixture_beta(&c, 100, 100) == 1);
}

/* The heap against a sort: the same components in the same order, for more unused ones than re-seeds are allowed. */
static void test_reseed_takes_least_used_first(void **state)
{
    (void)state;
    struct mixture_options o = small;
    o.K = 64;
    o.reseed_max = 5;
    struct mixture *m;
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 3);
    for (uint32_t k = 0; k < 64; k++)
        m->usage[k] = ((k * 37) % 64 / 2) / 4096.0; /* pairs of equal usage: ties go to the lower index */
    float novel[5 * 3], distance[5] = {2, 2, 2, 2, 2};
    for (int i = 0; i < 5; i++)
        for (int d = 0; d < 3; d++)
            novel[3 * i + d] = i < 3 ? (d == i) : -(d == i - 3);
    struct stats_rows s = {.K = 64, .D = 3, .V = 5, .novel = novel, .novel_distance = distance};
    uint32_t expected[5];
    for (int i = 0; i < 5; i++) {
        expected[i] = UINT32_MAX;
        for (uint32_t k = 0; k < 64; k++) {
            bool taken = false;
            for (int j = 0; j < i; j++)
                taken |= expected[j] == k;
            if (!taken && (expected[i] == UINT32_MAX || m->usage[k] < m->usage[expected[i]]))
                expected[i] = k;
        }
    }
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    assert_int_equal(m->reseed_count, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(m->reseeds[i].component, expected[i]);
    mixture_free(&m);
}

/* Candidates in the order in which they came, but for those that lie near a prototype, or near one that was chosen. */
static void test_reseed_to_the_first_that_are_far_enough(void **state)
{
    (void)state;
    struct mixture_options o = small;
    o.K = 8;
    o.reseed_max = 5;
    o.reseed_choice = RESEED_RANDOM;
    struct mixture *m;
    assert_int_equal(mixture_new(&o, &m), 0);
    mixture_start(m, 3);
    for (uint32_t k = 0; k < 8; k++)
        m->usage[k] = (k + 1) / 1024.0;
    float novel[] = {0, 1, 0, 1, 0, 0, 0.999f, 0.0447f, 0, 0, 0, 1}, distance[] = {0.05f, 0.2f, 0.9f, 1.5f};
    struct stats_rows s = {.K = 8, .D = 3, .V = 4, .novel = novel, .novel_distance = distance};
    assert_int_equal(mixture_em_step(m, &s, 1), 0);
    assert_int_equal(m->reseed_count, 2); /* of five: 0 is near a prototype, 2 near candidate 1 */
    assert_int_equal(m->reseeds[0].component, 0);
    assert_int_equal(m->reseeds[0].candidate, 1);
    assert_int_equal(m->reseeds[1].component, 1);
    assert_int_equal(m->reseeds[1].candidate, 3);
    mixture_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reseed_to_the_first_that_are_far_enough),
        cmocka_unit_test(test_start_is_unit_and_seeded),
        cmocka_unit_test(test_what_there_is_no_memory_for_is_said),
        cmocka_unit_test(test_empty_step_forgets_nothing),
        cmocka_unit_test(test_only_touched_rows_change),
        cmocka_unit_test(test_forms_of_forgetting),
        cmocka_unit_test(test_convex_masses_are_weights),
        cmocka_unit_test(test_vmf_bounds),
        cmocka_unit_test(test_perplexity_counts_even_use),
        cmocka_unit_test(test_beta_schedule),
        cmocka_unit_test(test_reseed_takes_least_used_first),
        cmocka_unit_test(test_fixtures_whole),
        cmocka_unit_test(test_fixtures_over_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
