/* KoLeo and the prototypes' own loss, in double: values against plain loops over the formulas, gradients by central
 * finite differences, for every objective's width (all prototypes, or CARP's blocks). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>
#include "common/rng.h"
#include "proto/run_config.h"
#include "worker/loss/loss.h"

enum { B = 4, D = 6, K = 24, BLOCK = 8, ROWS = 2 * B };

struct point {
    struct loss_options options;
    struct loss_joint joint;
    struct loss_workspace *w;
    struct loss_result result;
    real zs[ROWS * D], zt[ROWS * D], C[K * D], center[K], dz[ROWS * D], dC[K * D];
    uint32_t order[K];
};

static void unit_rows(struct rng *r, real *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        real square = 0;
        for (size_t d = 0; d < D; d++)
            x[i * D + d] = rng_normal(r);
        for (size_t d = 0; d < D; d++)
            square += x[i * D + d] * x[i * D + d];
        for (size_t d = 0; d < D; d++)
            x[i * D + d] /= sqrt(square);
    }
}

static void point_open(struct point *p, int objective)
{
    struct rng r;
    rng_open(&r, 9, RNG_INIT, 2100, 0, 0);
    memset(p, 0, sizeof *p);
    p->options = (struct loss_options){.objective = objective,
                                       .b = B,
                                       .K = K,
                                       .D = D,
                                       .block = BLOCK,
                                       .tau_s = 0.2,
                                       .tau_t = 0.1,
                                       .entropy_weight = 3,
                                       .sinkhorn_epsilon = 0.1,
                                       .sinkhorn_iterations = 4,
                                       .normalise = 1};
    p->joint = (struct loss_joint){.prototypes_teacher = p->C, .d_prototypes = p->dC, .koleo_every = 1};
    unit_rows(&r, p->zs, ROWS);
    unit_rows(&r, p->zt, ROWS);
    unit_rows(&r, p->C, K);
    for (uint32_t k = 0; k < K; k++)
        p->order[k] = k;
    rng_shuffle(&r, p->order, K);
    assert_int_equal(loss_workspace_new(&p->options, &p->w), 0);
}

static void evaluate(struct point *p)
{
    loss_joint(&p->options, p->zs, p->zt, p->C, p->order, p->center, &p->joint, p->w, &p->result, p->dz);
}

static double koleo_reference(const real *C)
{
    double sum = 0;
    for (int k = 0; k < K; k++) {
        double nearest = INFINITY;
        for (int n = 0; n < K; n++) {
            double square = 0;
            for (int d = 0; d < D; d++)
                square += (C[k * D + d] - C[n * D + d]) * (C[k * D + d] - C[n * D + d]);
            if (n != k)
                nearest = fmin(nearest, square);
        }
        sum -= log(sqrt(nearest)) / K;
    }
    return sum;
}

static void assert_near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance))
        fail_msg("%.15g, wanted %.15g", a, b);
}

/* The term's share of dC is the difference to the gradient without it. */
static void test_koleo(void **state)
{
    (void)state;
    const double weight = 0.7, step = 1e-6;
    for (int objective = LOSS_CARP; objective <= LOSS_SWAV; objective++) {
        struct point p;
        real without[K * D];
        point_open(&p, objective);
        evaluate(&p);
        assert_true(p.result.koleo == 0);
        double loss = p.result.loss;
        memcpy(without, p.dC, sizeof without);
        p.joint.koleo = weight;
        evaluate(&p);
        assert_near(p.result.koleo, koleo_reference(p.C), 1e-12);
        assert_near(p.result.loss, loss + weight * p.result.koleo, 1e-12);
        for (int i = 0; i < K * D; i++) {
            real kept = p.C[i];
            p.C[i] = kept + step;
            double above = koleo_reference(p.C);
            p.C[i] = kept - step;
            double slope = (above - koleo_reference(p.C)) / (2 * step);
            p.C[i] = kept;
            assert_near(p.dC[i] - without[i], weight * slope, 1e-7);
        }
        loss_workspace_free(&p.w);
    }
}

/* What the slots of a step compute, each its share, is on average the whole. */
static void test_koleo_is_shared(void **state)
{
    (void)state;
    enum { EVERY = 5 };
    struct point p;
    real whole[K * D], mean[K * D] = {0};
    double value = 0;
    point_open(&p, LOSS_DINO);
    p.joint.koleo = 1;
    evaluate(&p);
    double want = p.result.koleo;
    memcpy(whole, p.dC, sizeof whole);
    p.joint.koleo_every = EVERY;
    for (uint32_t slot = 0; slot < EVERY; slot++) {
        p.joint.koleo_first = slot;
        evaluate(&p);
        value += p.result.koleo / EVERY;
        for (int i = 0; i < K * D; i++)
            mean[i] += p.dC[i] / EVERY;
    }
    assert_near(value, want, 1e-12);
    for (int i = 0; i < K * D; i++)
        assert_near(mean[i], whole[i], 1e-12);
    loss_workspace_free(&p.w);
}

/* Copies of a prototype push each other apart with a finite force, though their distance is 0. */
static void test_copies(void **state)
{
    (void)state;
    struct point p;
    point_open(&p, LOSS_SWAV);
    p.joint.koleo = 1;
    memcpy(p.C + 3 * D, p.C + 11 * D, D * sizeof *p.C);
    evaluate(&p);
    assert_true(isfinite(p.result.loss));
    for (int i = 0; i < K * D; i++)
        assert_true(isfinite(p.dC[i]));
    loss_workspace_free(&p.w);
}

/* Logits of rows against one block, and Sinkhorn's assignment of them. */
static void assign(const struct point *p, const real *C, const uint32_t *members, size_t n, double *logits, double *q)
{
    double largest = -INFINITY;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t c = 0; c < n; c++) {
            double dot = 0;
            for (int d = 0; d < D; d++)
                dot += p->zt[i * D + d] * C[members[c] * D + d];
            logits[i * n + c] = dot;
            largest = fmax(largest, dot);
        }
    for (size_t i = 0; i < ROWS * n; i++)
        q[i] = exp((logits[i] - largest) / p->options.sinkhorn_epsilon);
    for (uint32_t iteration = 0; iteration < p->options.sinkhorn_iterations; iteration++) {
        for (size_t c = 0; c < n; c++) {
            double sum = 0;
            for (size_t i = 0; i < ROWS; i++)
                sum += q[i * n + c];
            for (size_t i = 0; i < ROWS; i++)
                q[i * n + c] /= sum * (double)n;
        }
        for (size_t i = 0; i < ROWS; i++) {
            double sum = 0;
            for (size_t c = 0; c < n; c++)
                sum += q[i * n + c];
            for (size_t c = 0; c < n; c++)
                q[i * n + c] /= sum;
        }
    }
}

/* The loss of prototypes C under assignments made from `assigned`: the point's own, held constant as the gradient
 * wants. */
static double own_reference(const struct point *p, const real *C, const real *assigned)
{
    size_t n = p->options.objective == LOSS_CARP ? BLOCK : K;
    double logits[ROWS * K], q[ROWS * K], unused[ROWS * K], sum = 0;
    for (size_t first = 0; first < K; first += n) {
        uint32_t members[K];
        for (size_t c = 0; c < n; c++)
            members[c] = n < K ? p->order[first + c] : (uint32_t)c;
        assign(p, assigned, members, n, logits, q);
        assign(p, C, members, n, logits, unused);
        for (size_t i = 0; i < ROWS; i++) {
            double total = 0;
            for (size_t c = 0; c < n; c++)
                total += exp(logits[i * n + c] / p->options.tau_s);
            for (size_t c = 0; c < n; c++)
                sum -= q[i * n + c] * (logits[i * n + c] / p->options.tau_s - log(total));
        }
    }
    return sum / (double)(ROWS * (K / n));
}

static void test_own_loss(void **state)
{
    (void)state;
    const double step = 1e-6;
    for (int objective = LOSS_CARP; objective <= LOSS_SWAV; objective++) {
        struct point p;
        real moved[K * D], encoder[ROWS * D];
        point_open(&p, objective);
        evaluate(&p);
        memcpy(encoder, p.dz, sizeof encoder);
        double loss = p.result.loss;
        p.joint.own = true;
        evaluate(&p);
        /* The encoder sees constants: neither its loss nor its gradient knows of the other one. */
        assert_true(p.result.loss == loss);
        assert_memory_equal(p.dz, encoder, sizeof encoder);
        assert_near(p.result.prototypes, own_reference(&p, p.C, p.C), 1e-12);
        for (int i = 0; i < K * D; i++) {
            memcpy(moved, p.C, sizeof moved);
            moved[i] += step;
            double above = own_reference(&p, moved, p.C);
            moved[i] -= 2 * step;
            assert_near(p.dC[i], (above - own_reference(&p, moved, p.C)) / (2 * step), 1e-8);
        }
        loss_workspace_free(&p.w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_koleo),
        cmocka_unit_test(test_koleo_is_shared),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_own_loss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
