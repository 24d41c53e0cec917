/* The whole loss with mean entropy, coding rate and local views by central finite differences, in double: every
 * objective, decoupled and joint, with respect to projections and to prototypes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>
#include "common/rng.h"
#include "proto/run_config.h"
#include "worker/loss/loss.h"

enum { B = 5, D = 6, K = 12, BLOCK = 4, LOCAL = 3, ROWS = 2 * B, ROWS_MAX = (2 + LOCAL) * B };

struct point {
    struct loss_options options;
    struct loss_workspace *w;
    bool joint;
    real zs[ROWS_MAX * D], zt[ROWS * D], C[K * D], Ct[K * D], center[K], dz[ROWS_MAX * D], dC[K * D];
    uint32_t order[K];
};

static void fill(struct rng *r, real *x, size_t n, double deviation)
{
    for (size_t i = 0; i < n; i++)
        x[i] = deviation * rng_normal(r);
}

static void point_open(struct point *p, int objective, bool joint, uint32_t local, double mean_entropy,
                       double coding_rate)
{
    struct rng r;
    rng_open(&r, 5, RNG_INIT, 2000, 0, 0);
    *p = (struct point){.joint = joint};
    p->options = (struct loss_options){.objective = objective,
                                       .b = B,
                                       .K = K,
                                       .D = D,
                                       .block = BLOCK,
                                       .tau_s = 0.2,
                                       .tau_t = 0.1,
                                       .entropy_weight = 3,
                                       .sinkhorn_epsilon = 0.05,
                                       .sinkhorn_iterations = 3,
                                       .normalise = 1,
                                       .mean_entropy = mean_entropy,
                                       .coding_rate = coding_rate,
                                       .coding_rate_epsilon = 0.5,
                                       .local = local};
    fill(&r, p->zs, ROWS_MAX * D, 1);
    fill(&r, p->zt, ROWS * D, 1);
    fill(&r, p->C, K * D, 0.5);
    fill(&r, p->Ct, K * D, 0.5);
    fill(&r, p->center, K, 0.1);
    for (uint32_t k = 0; k < K; k++)
        p->order[k] = k;
    rng_shuffle(&r, p->order, K);
    assert_int_equal(loss_workspace_new(&p->options, &p->w), 0);
}

static double value(struct point *p)
{
    struct loss_result result;
    struct loss_joint joint = {.prototypes_teacher = p->Ct, .d_prototypes = p->dC};
    if (p->joint)
        loss_joint(&p->options, p->zs, p->zt, p->C, p->order, p->center, &joint, p->w, &result, p->dz);
    else
        loss_decoupled(&p->options, p->zs, p->zt, p->C, p->order, p->center, p->w, &result, p->dz);
    return result.loss;
}

/* gradient is copied first, since every evaluation overwrites it. x is one of p's inputs. */
static void check(struct point *p, const char *what, real *x, const real *gradient, size_t n)
{
    const double step = 1e-5;
    real *want = calloc(n, sizeof *want), scale = 0;
    for (size_t i = 0; i < n; i++) {
        want[i] = gradient[i];
        scale = fmax(scale, fabs(want[i]));
    }
    assert_true(scale > 0);
    for (size_t i = 0; i < n; i++) {
        real kept = x[i];
        x[i] = kept + step;
        double above = value(p);
        x[i] = kept - step;
        double slope = (above - value(p)) / (2 * step);
        x[i] = kept;
        if (!(fabs(slope - want[i]) <= 1e-7 * scale))
            fail_msg("objective %d %s %s[%zu]: %.12g, finite differences %.12g", p->options.objective,
                     p->joint ? "joint" : "decoupled", what, i, want[i], slope);
    }
    free(want);
}

static void check_all(uint32_t local, double mean_entropy, double coding_rate)
{
    for (int objective = LOSS_CARP; objective <= LOSS_SWAV; objective++)
        for (int joint = 0; joint < 2; joint++) {
            struct point p;
            point_open(&p, objective, joint, local, mean_entropy, coding_rate);
            value(&p);
            check(&p, "dz", p.zs, p.dz, (2 + local) * B * D);
            value(&p);
            if (joint)
                check(&p, "dC", p.C, p.dC, K * D);
            loss_workspace_free(&p.w);
        }
}

static void test_mean_entropy(void **state)
{
    (void)state;
    check_all(0, 2, 0);
}

static void test_coding_rate(void **state)
{
    (void)state;
    check_all(0, 0, 1.5);
}

static void test_both(void **state)
{
    (void)state;
    check_all(0, 2, 1.5);
}

static void test_local_views(void **state)
{
    (void)state;
    check_all(LOCAL, 0, 0);
    check_all(LOCAL, 2, 1.5);
}

/* Local views that are copies of the two: of six pairs four are across views and two within, and a swap of the
 * student's views gives the latter. */
static void test_copies_as_local_views(void **state)
{
    (void)state;
    for (int objective = LOSS_CARP; objective <= LOSS_SWAV; objective++) {
        struct point p;
        struct loss_result across, within, all;
        real swapped[ROWS * D];
        point_open(&p, objective, false, 0, 0, 0);
        for (int i = 0; i < ROWS * D; i++)
            swapped[i] = p.zs[(i + B * D) % (ROWS * D)];
        loss_decoupled(&p.options, p.zs, p.zt, p.C, p.order, p.center, p.w, &across, p.dz);
        loss_decoupled(&p.options, swapped, p.zt, p.C, p.order, p.center, p.w, &within, p.dz);
        loss_workspace_free(&p.w);
        point_open(&p, objective, false, 2, 0, 0);
        for (int i = 0; i < ROWS * D; i++)
            p.zs[ROWS * D + i] = p.zs[i];
        loss_decoupled(&p.options, p.zs, p.zt, p.C, p.order, p.center, p.w, &all, p.dz);
        assert_true(fabs(all.consistency - (4 * across.consistency + 2 * within.consistency) / 6) < 1e-12);
        loss_workspace_free(&p.w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean_entropy), cmocka_unit_test(test_coding_rate),           cmocka_unit_test(test_both),
        cmocka_unit_test(test_local_views),  cmocka_unit_test(test_copies_as_local_views),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
