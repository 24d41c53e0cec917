/* Attention against loops in double: of all tokens, forward; of the CLS token alone, whose short cut must be what
 * all keys and values give, also its gradients, by differences. */
#include "tests/unit/worker/nn_support.h"

#include <math.h>
#include "tests/unit/kernels_each.h"
#include "worker/nn/attention.h"
#include "worker/nn/cls_attention.h"

static double *slow_attention(const struct attention *t, const real *qkv)
{
    size_t T = t->tokens, row = (size_t)3 * t->dim;
    double *out = nn_zeros(T * t->dim), *p = nn_zeros(T);
    for (size_t h = 0; h < t->heads; h++)
        for (size_t i = 0; i < T; i++) {
            double total = 0;
            for (size_t j = 0; j < T; j++) {
                double score = 0;
                for (size_t k = h * t->width; k < (h + 1) * t->width; k++)
                    score += (double)qkv[i * row + k] * (double)qkv[j * row + t->dim + k];
                p[j] = exp(score / sqrt(t->width));
                total += p[j];
            }
            for (size_t j = 0; j < T; j++)
                for (size_t k = h * t->width; k < (h + 1) * t->width; k++)
                    out[i * t->dim + k] += p[j] / total * (double)qkv[j * row + 2 * t->dim + k];
        }
    free(p);
    return out;
}

static void check_attention(uint32_t tokens, uint32_t dim, uint32_t heads)
{
    struct attention t;
    struct attention_scratch s;
    struct arena a = {0};
    assert_int_equal(attention_init(&t, tokens, dim, heads, PRECISION_FLOAT32), 0);
    attention_carve(&t, &s, &a);
    assert_int_equal(arena_allocate(&a), 0);
    attention_carve(&t, &s, &a);
    real *qkv = nn_random(1, (size_t)tokens * 3 * dim), *out = nn_take((size_t)tokens * dim);
    real *p = nn_take(attention_probabilities_size(&t));
    double *want = slow_attention(&t, qkv);
    attention_forward(&t, qkv, p, out, &s);
    nn_assert_close("attention", out, want, (size_t)tokens * dim);
    free(qkv);
    free(out);
    free(p);
    free(want);
    arena_free(&a);
    attention_fini(&t);
}

static void test_attention(void **state)
{
    (void)state;
    check_attention(1, 1, 1);
    check_attention(3, 6, 2);
    check_attention(17, 48, 2);
    check_attention(50, 128, 4);
}

/* ---- attention of the CLS token alone ---- */

enum { CLS_SAMPLES = 3 };

struct cls_case {
    struct cls_attention t;
    struct cls_store store;
    struct cls_scratch scratch;
    struct arena arena;
    size_t inputs, weights; /* of x; of weight and bias together */
    real *x, *weight, *d_output, *output, *d_x, *d_weight;
};

static void carve_cls(struct cls_case *k)
{
    cls_attention_carve(&k->t, CLS_SAMPLES + 1, &k->store, &k->arena);
    cls_scratch_carve(&k->t, &k->scratch, &k->arena);
}

static void cls_open(struct cls_case *k, uint32_t tokens, uint32_t dim, uint32_t heads)
{
    *k = (struct cls_case){.inputs = (size_t)CLS_SAMPLES * tokens * dim, .weights = (size_t)3 * dim * (dim + 1)};
    assert_int_equal(cls_attention_init(&k->t, tokens, dim, heads, CLS_SAMPLES + 1, PRECISION_FLOAT32), 0);
    carve_cls(k);
    assert_int_equal(arena_allocate(&k->arena), 0);
    carve_cls(k);
    k->x = nn_random(1, k->inputs);
    k->weight = nn_random(2, k->weights);
    k->d_output = nn_random(3, (size_t)CLS_SAMPLES * dim);
    k->output = nn_take((size_t)CLS_SAMPLES * dim);
    k->d_x = nn_take(k->inputs);
    k->d_weight = nn_take(k->weights);
    for (size_t i = 0; i < k->weights; i++)
        k->weight[i] /= (real)sqrt(dim);
}

static void cls_close(struct cls_case *k)
{
    NN_FREE(k->x, k->weight, k->d_output, k->output, k->d_x, k->d_weight);
    arena_free(&k->arena);
    cls_attention_fini(&k->t);
}

/* One row of Q, K and V in double: of sample and token `row`, element j of 3 dim. */
static double slow_qkv(const struct cls_case *k, const double *x, const double *weight, size_t row, size_t j)
{
    size_t dim = k->t.dim;
    double sum = weight[3 * dim * dim + j];
    for (size_t i = 0; i < dim; i++)
        sum += weight[j * dim + i] * x[row * dim + i];
    return sum;
}

/* out (samples,dim): by way of all keys and values. */
static void slow_cls(const struct cls_case *k, const double *x, const double *weight, double *out)
{
    size_t T = k->t.tokens, dim = k->t.dim, width = k->t.width;
    double *p = nn_zeros(T);
    for (size_t at = 0; at < (size_t)CLS_SAMPLES * k->t.heads; at++) {
        size_t s = at / k->t.heads, from = at % k->t.heads * width;
        double total = 0;
        for (size_t t = 0; t < T; t++) {
            double score = 0;
            for (size_t j = from; j < from + width; j++)
                score += slow_qkv(k, x, weight, s * T, j) * slow_qkv(k, x, weight, s * T + t, dim + j);
            total += p[t] = exp(score / sqrt((double)width));
        }
        for (size_t j = from; j < from + width; j++) {
            out[s * dim + j] = 0;
            for (size_t t = 0; t < T; t++)
                out[s * dim + j] += p[t] / total * slow_qkv(k, x, weight, s * T + t, 2 * dim + j);
        }
    }
    free(p);
}

static double *widened(const real *x, size_t n)
{
    double *same = nn_zeros(n);
    for (size_t i = 0; i < n; i++)
        same[i] = (double)x[i];
    return same;
}

/* The gradient of sum d_output output wrt `n` values that the slow way takes, by differences. */
static void slow_cls_gradient(const struct cls_case *k, const double *x, const double *weight, double *values, size_t n,
                              double *gradient)
{
    size_t outputs = (size_t)CLS_SAMPLES * k->t.dim;
    double *out = nn_zeros(outputs);
    const double step = 1e-5;
    for (size_t i = 0; i < 2 * n; i++) {
        double old = values[i / 2], sign = i % 2 ? -1 : 1;
        values[i / 2] += sign * step;
        slow_cls(k, x, weight, out);
        values[i / 2] = old;
        for (size_t j = 0; j < outputs; j++)
            gradient[i / 2] += sign * out[j] * (double)k->d_output[j] / (2 * step);
    }
    free(out);
}

/* Differences are good to nine digits. */
static void assert_near(const char *what, const real *got, const double *want, size_t n)
{
    double scale = 0;
    for (size_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)got[i] - want[i]) <= (sizeof(real) == sizeof(double) ? 1e-8 : 5e-6) * scale))
            fail_msg("%s[%zu] = %.9g, expected %.9g, scale %g", what, i, (double)got[i], want[i], scale);
}

static void check_cls_gradient(struct cls_case *k, double *x, double *weight)
{
    size_t dim = k->t.dim;
    real *bias = k->d_weight + 3 * dim * dim;
    double *d_x = nn_zeros(k->inputs), *d_weight = nn_zeros(k->weights);
    slow_cls_gradient(k, x, weight, x, k->inputs, d_x);
    slow_cls_gradient(k, x, weight, weight, k->weights, d_weight);
    cls_attention_begin_backward(&k->t, k->weight, &k->store);
    cls_attention_backward(&k->t, CLS_SAMPLES, k->x, k->d_output, &k->store, &k->scratch, k->d_x, bias);
    cls_attention_end_backward(&k->t, &k->store, k->d_weight);
    assert_near("d_x", k->d_x, d_x, k->inputs);
    assert_near("d_weight", k->d_weight, d_weight, k->weights);
    free(d_x);
    free(d_weight);
}

static void check_cls(uint32_t tokens, uint32_t dim, uint32_t heads, bool gradients)
{
    struct cls_case k;
    cls_open(&k, tokens, dim, heads);
    double *x = widened(k.x, k.inputs), *weight = widened(k.weight, k.weights), *want = nn_zeros(CLS_SAMPLES * dim);
    slow_cls(&k, x, weight, want);
    cls_attention_begin_forward(&k.t, k.weight, k.weight + (size_t)3 * dim * dim, &k.store);
    cls_attention_forward(&k.t, CLS_SAMPLES, k.x, &k.store, &k.scratch, k.output);
    nn_assert_close("output", k.output, want, (size_t)CLS_SAMPLES * dim);
    if (gradients)
        check_cls_gradient(&k, x, weight);
    free(x);
    free(weight);
    free(want);
    cls_close(&k);
}

static void test_cls_attention(void **state)
{
    (void)state;
    check_cls(1, 1, 1, true);
    check_cls(3, 6, 2, true);
    check_cls(18, 8, 2, true);
    check_cls(17, 34, 2, false);
    check_cls(50, 64, 4, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_cls_attention),
    };
    return run_for_each_kernels(tests, sizeof tests / sizeof tests[0]);
}
