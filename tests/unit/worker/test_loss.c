/* The losses against fixtures made by automatic differentiation in float64 (tests/golden/loss_*.json): value, gradient
 * with respect to the student's projections, and in joint mode with respect to the prototypes. Mean entropy and coding
 * rate against loss_terms.json.
 * tests/unit/f64/test_loss.c compiles this file with double reals and a tolerance of 1e-9. */
#include <setjmp.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include "proto/run_config.h"
#include "worker/loss/loss.h"

/* Float: logits are divided by temperatures of 0.1 and SwAV's by 0.05, which multiplies rounding by up to 20. */
static const double TOLERANCE = sizeof(real) == sizeof(double) ? 1e-9 : 1e-4;

struct fixture {
    json_t *json;
    struct loss_options options;
    real *zs, *zt, *C, *center;
    uint32_t *order;
};

static real *numbers(const json_t *json, const char *name, size_t n)
{
    const json_t *array = json_object_get(json, name), *row, *value;
    if (!json_is_array(array))
        return NULL;
    real *out = calloc(n, sizeof *out);
    size_t used = 0, i, j;
    json_array_foreach(array, i, row)
    {
        if (json_is_number(row))
            out[used++] = (real)json_number_value(row);
        else
            json_array_foreach(row, j, value) out[used++] = (real)json_number_value(value);
        assert_true(used <= n);
    }
    assert_int_equal(used, n);
    return out;
}

static double number(const json_t *json, const char *name, double otherwise)
{
    const json_t *value = json_object_get(json, name);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static uint32_t *order_of(const json_t *json, size_t K)
{
    const json_t *array = json_object_get(json, "perm"), *value;
    uint32_t *order = array ? calloc(K, sizeof *order) : NULL;
    size_t i;
    json_array_foreach(array, i, value) order[i] = (uint32_t)json_integer_value(value);
    return order;
}

static void fixture_open(struct fixture *f, const char *path, enum loss_objective objective)
{
    json_error_t error;
    f->json = json_load_file(path, 0, &error);
    assert_non_null(f->json);
    uint32_t b = (uint32_t)number(f->json, "B", 0), D = (uint32_t)number(f->json, "D", 0);
    uint32_t K = (uint32_t)number(f->json, "K", 0);
    f->options = (struct loss_options){.objective = objective,
                                       .b = b,
                                       .K = K,
                                       .D = D,
                                       .block = (uint32_t)number(f->json, "P", 0),
                                       .tau_s = (real)number(f->json, "tau_s", 1),
                                       .tau_t = (real)number(f->json, "tau_t", 1),
                                       .entropy_weight = 1,
                                       .sinkhorn_epsilon = (real)number(f->json, "sinkhorn_eps", 0.05),
                                       .sinkhorn_iterations = (uint32_t)number(f->json, "sinkhorn_iters", 0),
                                       .normalise = (uint32_t)number(f->json, "znorm", 1)};
    f->zs = numbers(f->json, "zs", (size_t)2 * b * D);
    f->zt = numbers(f->json, "zt", (size_t)2 * b * D);
    f->C = numbers(f->json, "C", (size_t)K * D);
    f->center = numbers(f->json, "center", K);
    f->order = order_of(f->json, K);
}

static void fixture_close(struct fixture *f)
{
    json_decref(f->json);
    free(f->zs);
    free(f->zt);
    free(f->C);
    free(f->center);
    free(f->order);
}

/* Largest difference over the largest expected magnitude. */
static void assert_close(const char *what, const real *got, const real *want, size_t n)
{
    double scale = 0, worst = 0;
    for (size_t i = 0; i < n; i++) {
        scale = fmax(scale, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)(got[i] - want[i])));
        assert_true(isfinite((double)got[i]));
    }
    if (worst > TOLERANCE * scale)
        fail_msg("%s: off by %g of %g", what, worst, scale);
}

static void assert_value(const json_t *json, const char *name, double got)
{
    double want = number(json, name, NAN);
    if (!(fabs(got - want) <= TOLERANCE * fabs(want)))
        fail_msg("%s: %.12g, expected %.12g", name, got, want);
}

static void check_gradient(const struct fixture *f, const char *name, const real *got, size_t n)
{
    real *want = numbers(f->json, name, n);
    assert_non_null(want);
    assert_close(name, got, want, n);
    free(want);
}

static void check_result(const struct fixture *f, const struct loss_result *r)
{
    assert_value(f->json, "loss", r->loss);
    if (f->options.objective == LOSS_CARP) {
        assert_value(f->json, "consistency", r->consistency);
        assert_value(f->json, "entropy", r->entropy);
    }
}

/* center_after = 0.9 center + 0.1 contribution */
static void check_center(const struct fixture *f, const struct loss_workspace *w)
{
    size_t K = f->options.K;
    real *after = calloc(K, sizeof *after);
    loss_center_contribution(w, after);
    for (size_t k = 0; k < K; k++)
        after[k] = REAL(0.9) * f->center[k] + REAL(0.1) * after[k];
    check_gradient(f, "center_after", after, K);
    free(after);
}

static void check_fixture(const char *path, enum loss_objective objective)
{
    struct fixture f;
    fixture_open(&f, path, objective);
    const struct loss_options *o = &f.options;
    size_t rows = (size_t)2 * o->b * o->D;
    real *dz = calloc(rows, sizeof *dz), *dC = calloc((size_t)o->K * o->D, sizeof *dC);
    struct loss_workspace *w;
    struct loss_result result;
    assert_int_equal(loss_workspace_new(o, &w), 0);
    for (int round = 0; round < 2; round++) { /* a workspace is used again every step */
        loss_decoupled(o, f.zs, f.zt, f.C, f.order, f.center, w, &result, dz);
        check_result(&f, &result);
        check_gradient(&f, "grad_zs", dz, rows);
    }
    if (objective == LOSS_DINO)
        check_center(&f, w);
    struct loss_joint joint = {.prototypes_teacher = f.C, .d_prototypes = dC};
    loss_joint(o, f.zs, f.zt, f.C, f.order, f.center, &joint, w, &result, dz);
    check_result(&f, &result);
    check_gradient(&f, "grad_zs", dz, rows);
    check_gradient(&f, "grad_C", dC, (size_t)o->K * o->D);
    loss_workspace_free(&w);
    assert_null(w);
    free(dz);
    free(dC);
    fixture_close(&f);
}

static void test_carp_raw(void **state)
{
    (void)state;
    check_fixture("tests/golden/loss_carp_B4_D5_K12_R3_znorm0.json", LOSS_CARP);
}

static void test_carp_normalised(void **state)
{
    (void)state;
    check_fixture("tests/golden/loss_carp_B4_D5_K12_R3_znorm1.json", LOSS_CARP);
    check_fixture("tests/golden/loss_carp_B8_D16_K64_R4_znorm1.json", LOSS_CARP);
}

static void test_dino(void **state)
{
    (void)state;
    check_fixture("tests/golden/loss_dino_B4_D5_K12.json", LOSS_DINO);
    check_fixture("tests/golden/loss_dino_B8_D16_K64.json", LOSS_DINO);
}

static void test_swav(void **state)
{
    (void)state;
    check_fixture("tests/golden/loss_swav_B4_D5_K12.json", LOSS_SWAV);
    check_fixture("tests/golden/loss_swav_B8_D16_K64.json", LOSS_SWAV);
}

/* The joint loss must use the teacher's own prototypes for the teacher's logits, and the entropy weight must count. */
static void test_inputs_matter(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, "tests/golden/loss_carp_B8_D16_K64_R4_znorm1.json", LOSS_CARP);
    struct loss_options o = f.options;
    size_t rows = (size_t)2 * o.b * o.D, all = (size_t)o.K * o.D;
    real *dz = calloc(rows, sizeof *dz), *dC = calloc(all, sizeof *dC), *other = calloc(all, sizeof *other);
    struct loss_workspace *w;
    struct loss_result result, heavier, moved;
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    for (size_t i = 0; i < all; i++)
        other[i] = f.C[all - 1 - i];
    struct loss_joint same = {.prototypes_teacher = f.C, .d_prototypes = dC},
                      different = {.prototypes_teacher = other, .d_prototypes = dC};
    loss_joint(&o, f.zs, f.zt, f.C, f.order, NULL, &same, w, &result, dz);
    loss_joint(&o, f.zs, f.zt, f.C, f.order, NULL, &different, w, &moved, dz);
    assert_true(fabs(moved.loss - result.loss) > 1e-3);
    o.entropy_weight = 3;
    loss_decoupled(&o, f.zs, f.zt, f.C, f.order, NULL, w, &heavier, dz);
    assert_true(fabs(heavier.loss - result.consistency - 3 * result.entropy) < 1e-4);
    loss_workspace_free(&w);
    free(dz);
    free(dC);
    free(other);
    fixture_close(&f);
}

/* One image, and projections of zero: normalisation must not divide by zero. */
static void test_zero_projection(void **state)
{
    (void)state;
    struct loss_options o = {.objective = LOSS_CARP,
                             .b = 1,
                             .K = 4,
                             .D = 2,
                             .block = 2,
                             .tau_s = 1,
                             .tau_t = 1,
                             .entropy_weight = 1,
                             .normalise = 1};
    real z[4] = {0}, dz[4] = {NAN}, C[8] = {1, 0, 0, 1, -1, 0, 0, -1};
    uint32_t order[4] = {3, 1, 0, 2};
    struct loss_workspace *w;
    struct loss_result result;
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    loss_decoupled(&o, z, z, C, order, NULL, w, &result, dz);
    for (int i = 0; i < 4; i++)
        assert_true(isfinite((double)dz[i]));
    assert_true(fabs(result.consistency - log(2.0)) < 1e-6); /* uniform over two prototypes */
    assert_true(fabs(result.entropy) < 1e-6);
    loss_workspace_free(&w);
}

/* A prototype that no row can reach in this precision must not turn SwAV's targets into NaN. */
static void test_swav_unreachable(void **state)
{
    (void)state;
    struct loss_options o = {.objective = LOSS_SWAV,
                             .b = 2,
                             .K = 3,
                             .D = 1,
                             .tau_s = 1,
                             .tau_t = 1,
                             .sinkhorn_epsilon = REAL(0.05),
                             .sinkhorn_iterations = 3,
                             .normalise = 0};
    real z[4] = {1, 2, 3, 4}, dz[4], C[3] = {0, 1, -10000};
    struct loss_workspace *w;
    struct loss_result result;
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    loss_decoupled(&o, z, z, C, NULL, NULL, w, &result, dz);
    assert_true(isfinite(result.loss));
    for (int i = 0; i < 4; i++)
        assert_true(isfinite((double)dz[i]));
    loss_workspace_free(&w);
}

/* ---- the terms that any objective may have ---- */

static void difference(const real *with, const real *without, size_t n, real *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = with[i] - without[i];
}

static int objective_named(const char *name)
{
    return strstr(name, "carp") ? LOSS_CARP : strstr(name, "dino") ? LOSS_DINO : LOSS_SWAV;
}

/* With the terms and without: the difference is what loss_terms.json says, and the parts are reported. */
static void check_terms(const json_t *json)
{
    char path[256];
    const char *name = json_string_value(json_object_get(json, "fixture"));
    struct fixture f;
    snprintf(path, sizeof path, "tests/golden/%s", name);
    fixture_open(&f, path, objective_named(name));
    struct loss_options o = f.options, plain = f.options;
    o.mean_entropy = (real)number(json, "weight_entropy", 0);
    o.coding_rate = (real)number(json, "weight_rate", 0);
    o.coding_rate_epsilon = (real)number(json, "epsilon", 0);
    size_t rows = (size_t)2 * o.b * o.D, all = (size_t)o.K * o.D;
    real *dz = calloc(2 * rows, sizeof *dz), *dC = calloc(2 * all, sizeof *dC);
    struct loss_joint joint = {.prototypes_teacher = f.C, .d_prototypes = dC},
                      joint_plain = {.prototypes_teacher = f.C, .d_prototypes = dC + all};
    struct loss_workspace *w;
    struct loss_result with, without;
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    loss_joint(&o, f.zs, f.zt, f.C, f.order, f.center, &joint, w, &with, dz);
    loss_joint(&plain, f.zs, f.zt, f.C, f.order, f.center, &joint_plain, w, &without, dz + rows);
    assert_value(json, "mean_entropy", with.mean_entropy);
    assert_value(json, "coding_rate", with.coding_rate);
    assert_true(with.consistency == without.consistency && with.entropy == without.entropy);
    assert_true(without.mean_entropy == 0 && without.coding_rate == 0);
    double terms = (double)o.mean_entropy * with.mean_entropy + (double)o.coding_rate * with.coding_rate;
    assert_true(fabs(with.loss - (without.loss - terms)) < TOLERANCE);
    difference(dz, dz + rows, rows, dz);
    difference(dC, dC + all, all, dC);
    if (json_object_get(json, "grad_zs")) {
        struct fixture expected = {.json = json_deep_copy(json)};
        check_gradient(&expected, "grad_zs", dz, rows);
        check_gradient(&expected, "grad_C", dC, all);
        json_decref(expected.json);
    }
    loss_decoupled(&o, f.zs, f.zt, f.C, f.order, f.center, w, &without, dz + rows);
    assert_true(without.loss == with.loss && without.coding_rate == with.coding_rate);
    loss_workspace_free(&w);
    free(dz);
    free(dC);
    fixture_close(&f);
}

static void test_terms(void **state)
{
    (void)state;
    json_error_t error;
    json_t *cases = json_load_file("tests/golden/loss_terms.json", 0, &error), *one;
    size_t i;
    assert_int_equal(json_array_size(cases), 14);
    json_array_foreach(cases, i, one) check_terms(one);
    json_decref(cases);
}

/* Bounds: embeddings that are all one give the smallest rate, as orthogonal ones the largest; a student that uses one
 * prototype only has no mean entropy, one that cannot tell them apart has ln K. */
/* A price is one more dimension, in which prototypes have their price, the teacher's rows balance tau_t, and the
 * student's nothing: raw embeddings give the same loss either way. */
static void check_prices(enum loss_objective objective)
{
    enum { B = 3, DIM = 4, COUNT = 8 };
    real zs[2 * B * DIM], zt[2 * B * DIM], C[COUNT * DIM], price[COUNT], center[COUNT], dz[2 * B * DIM];
    real wide_zs[2 * B * (DIM + 1)], wide_zt[2 * B * (DIM + 1)], wide_C[COUNT * (DIM + 1)], wide_dz[2 * B * (DIM + 1)];
    static const uint32_t order[COUNT] = {3, 0, 7, 5, 1, 2, 6, 4};
    struct loss_result plain, got, want;
    struct loss_workspace *w;
    struct loss_options o = {.objective = objective,
                             .b = B,
                             .K = COUNT,
                             .D = DIM,
                             .block = 4,
                             .tau_s = (real)0.2,
                             .tau_t = (real)0.25,
                             .entropy_weight = 2,
                             .price = price};
    for (size_t i = 0; i < COUNT; i++) {
        price[i] = (real)(i % 3) - 1;
        center[i] = (real)(i % 2) / 8;
        for (size_t d = 0; d < DIM; d++)
            wide_C[i * (DIM + 1) + d] = C[i * DIM + d] = (real)sin(1 + (double)(i * DIM + d));
        wide_C[i * (DIM + 1) + DIM] = price[i];
    }
    for (size_t i = 0; i < (size_t)2 * B; i++) {
        for (size_t d = 0; d < DIM; d++) {
            wide_zs[i * (DIM + 1) + d] = zs[i * DIM + d] = (real)cos(2 + (double)(i * DIM + d)) / 2;
            wide_zt[i * (DIM + 1) + d] = zt[i * DIM + d] = (real)sin(7 + (double)(3 * i * DIM + d)) / 2;
        }
        wide_zs[i * (DIM + 1) + DIM] = 0;
        wide_zt[i * (DIM + 1) + DIM] = (real)0.5 * o.tau_t;
    }
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    loss_decoupled(&o, zs, zt, C, order, center, w, &plain, dz);
    o.balance = (real)0.5;
    loss_decoupled(&o, zs, zt, C, order, center, w, &got, dz);
    loss_workspace_free(&w);
    assert_true(fabs(got.loss - plain.loss) > 1e-3);
    o.balance = 0;
    o.D = DIM + 1;
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    loss_decoupled(&o, wide_zs, wide_zt, wide_C, order, center, w, &want, wide_dz);
    loss_workspace_free(&w);
    assert_true(fabs(got.loss - want.loss) <= TOLERANCE * fabs(want.loss));
    for (size_t i = 0; i < (size_t)2 * B; i++)
        assert_close("dz", dz + i * DIM, wide_dz + i * (DIM + 1), DIM);
}

static void test_prices(void **state)
{
    (void)state;
    check_prices(LOSS_CARP);
    check_prices(LOSS_DINO);
}

static void test_terms_at_their_bounds(void **state)
{
    (void)state;
    struct loss_options o = {.objective = LOSS_DINO,
                             .b = 2,
                             .K = 4,
                             .D = 4,
                             .tau_s = REAL(0.01),
                             .tau_t = 1,
                             .normalise = 1,
                             .mean_entropy = 1,
                             .coding_rate = 1,
                             .coding_rate_epsilon = REAL(0.5)};
    const real same[16] = {1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0};
    const real apart[16] = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, center[4] = {0};
    const real nowhere[16] = {0};
    real dz[16];
    struct loss_workspace *w;
    struct loss_result r;
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    loss_decoupled(&o, same, same, apart, NULL, center, w, &r, dz);
    assert_true(fabs(r.coding_rate - 0.5 * log(1 + 8)) < 1e-5); /* one direction of four, (4 + 4) / 16 */
    assert_true(fabs(r.mean_entropy) < 1e-5);
    loss_decoupled(&o, apart, apart, apart, NULL, center, w, &r, dz);
    assert_true(fabs(r.coding_rate - 0.5 * 4 * log(1 + 2)) < 1e-5);
    assert_true(fabs(r.mean_entropy - log(4)) < 1e-5);
    loss_decoupled(&o, nowhere, nowhere, apart, NULL, center, w, &r, dz);
    assert_true(fabs(r.coding_rate) < 1e-5 && fabs(r.mean_entropy - log(4)) < 1e-5);
    for (int i = 0; i < 16; i++)
        assert_true(isfinite((double)dz[i]));
    loss_workspace_free(&w);
}

/* What overflowed must not come out as numbers: the server skips a step whose gradient is not finite. */
static void test_rate_of_what_is_not_finite(void **state)
{
    (void)state;
    struct loss_options o = {.objective = LOSS_DINO,
                             .b = 1,
                             .K = 2,
                             .D = 2,
                             .tau_s = 1,
                             .tau_t = 1,
                             .normalise = 1,
                             .coding_rate = 1,
                             .coding_rate_epsilon = 1};
    const real z[4] = {1, (real)INFINITY, 0, 1}, C[4] = {1, 0, 0, 1}, center[2] = {0};
    real dz[4] = {0};
    struct loss_workspace *w;
    struct loss_result r;
    assert_int_equal(loss_workspace_new(&o, &w), 0);
    loss_decoupled(&o, z, z, C, NULL, center, w, &r, dz);
    assert_false(isfinite(r.loss));
    assert_false(isfinite((double)dz[0]) && isfinite((double)dz[1]));
    loss_workspace_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zero_projection),
        cmocka_unit_test(test_swav_unreachable),
        cmocka_unit_test(test_carp_raw),
        cmocka_unit_test(test_carp_normalised),
        cmocka_unit_test(test_dino),
        cmocka_unit_test(test_swav),
        cmocka_unit_test(test_inputs_matter),
        cmocka_unit_test(test_prices),
        cmocka_unit_test(test_terms_at_their_bounds),
        cmocka_unit_test(test_rate_of_what_is_not_finite),
        cmocka_unit_test(test_terms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
