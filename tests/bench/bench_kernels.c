/* What this machine could do and what we make of it, on one core: the peak of multiply-adds for each choice of kernels,
 * OpenBLAS's sgemm with the kernels it chose, our tiles on the same product, the E-step, the coding rate.
 * Rates are the best of many short runs in turn, GFLOP/s; a share is of the best peak. Usage: bench_kernels. */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/rng.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "tests/bench/bench.h"
#include "tests/bench/peak.h"
#include "worker/estep.h"
#include "worker/loss/feature_rate.h"
#include "worker/nn/linear.h"

enum { RUNS = 200 };

struct product {
    uint32_t rows, in, out; /* y (rows,out) = x (rows,in) W^T */
    float *x, *weight, *packed, *y, *gradient;
    struct linear layer;
};

static void *take(size_t n)
{
    void *p = calloc(n, sizeof(float));
    if (!p)
        abort();
    return p;
}

static float *random_floats(size_t n)
{
    struct rng r;
    float *x = take(n);
    rng_open(&r, 1, RNG_INIT, n, 0, 0);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r);
    return x;
}

static void run_sgemm(const struct product *p)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)p->rows, (int)p->out, (int)p->in, 1, p->x, (int)p->in,
                p->weight, (int)p->in, 0, p->y, (int)p->out);
}

static void run_forward(const struct product *p)
{
    linear_forward(&p->layer, p->rows, p->x, p->packed, p->y);
}

static void run_weight(const struct product *p)
{
    linear_backward_weight(&p->layer, p->rows, p->x, p->y, p->gradient);
}

static double rate_of(const struct product *p, void (*run)(const struct product *), double best)
{
    double from = now();
    run(p);
    double rate = 2.0 * p->rows * p->in * p->out / (now() - from) / 1e9;
    return rate > best ? rate : best;
}

/* The three, in turn so that all see the same machine. */
static void measure_product(uint32_t rows, uint32_t in, uint32_t out, enum encoder_precision precision, double peak)
{
    struct product p = {.rows = rows, .in = in, .out = out};
    double sgemm = 0, forward = 0, weight = 0;
    if (linear_init(&p.layer, in, out, precision) != 0)
        abort();
    p.x = random_floats((size_t)rows * in);
    p.weight = random_floats((size_t)in * out);
    p.y = take((size_t)rows * out);
    p.packed = take(linear_packed_forward_size(&p.layer));
    p.gradient = take(linear_gradient_size(&p.layer));
    linear_pack_forward(&p.layer, p.weight, NULL, p.packed);
    for (int i = 0; i < RUNS; i++) {
        sgemm = rate_of(&p, run_sgemm, sgemm);
        forward = rate_of(&p, run_forward, forward);
        weight = rate_of(&p, run_weight, weight);
    }
    printf("bench=product shape=%ux%ux%u precision=%s sgemm=%.1f forward=%.1f weight=%.1f forward_share=%.2f\n", rows,
           in, out, precision == PRECISION_BF16 ? "bf16" : "float32", sgemm, forward, weight, forward / peak);
    linear_fini(&p.layer);
    void *const all[] = {p.x, p.weight, p.y, p.packed, p.gradient};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static struct mixture_view *random_mixture(uint32_t K, uint32_t D)
{
    struct mixture_view *v;
    struct rng r;
    if (mixture_view_new(K, D, COVARIANCE_DIAGONAL, &v) != 0)
        abort();
    rng_open(&r, 2, RNG_INIT, K, D, 0);
    for (size_t i = 0; i < (size_t)K * D; i++) {
        v->mean[i] = (float)(rng_normal(&r) / sqrt(D));
        v->variance[i] = (0.2f + rng_uniform(&r)) / (float)D;
    }
    for (size_t k = 0; k < K; k++) {
        double c = -log(K);
        for (size_t i = k * D; i < (k + 1) * D; i++)
            c -= 0.5 * (log(v->variance[i]) + (double)v->mean[i] * v->mean[i] / v->variance[i]);
        v->log_const[k] = (float)c;
        v->weight[k] = 1 / (float)K;
    }
    v->beta = 1;
    return v;
}

/* Two products of depth D for the logits and one for the novelty search. */
static void measure_estep(uint32_t N, uint32_t K, uint32_t D, int runs)
{
    const struct estep_options o = {.drop = 1e-4f, .novel_max = 16, .novel_distance = 0.5f};
    struct mixture_view *v = random_mixture(K, D);
    struct estep *s;
    struct estep_result result;
    float *h = random_floats((size_t)N * D);
    double run = 1e9, use = 1e9;
    if (estep_new(N, K, D, o, &s) != 0)
        abort();
    vec_normalise_rows(h, N, D, NULL);
    for (int i = 0; i < runs; i++) {
        double from = now();
        v->version++;
        estep_use(s, v);
        double used = now();
        estep_run(s, h, N, &result);
        double ran = now();
        use = used - from < use ? used - from : use;
        run = ran - used < run ? ran - used : run;
    }
    printf("bench=estep shape=%ux%ux%u gflops=%.1f rows_per_s=%.0f version_us=%.0f\n", N, K, D,
           6.0 * N * K * D / run / 1e9, N / run, use * 1e6);
    estep_free(&s);
    mixture_view_free(&v);
    free(h);
}

/* A slot's features with their gradient, as loss.feature_rate asks for them. */
static void measure_coding_rate(uint32_t rows, uint32_t F)
{
    struct feature_rate *f;
    float *x = random_floats((size_t)rows * F), *d = take((size_t)rows * F);
    double best = INFINITY;
    must(feature_rate_new(rows, F, 0.1f, 0.5f, &f));
    for (int run = 0; run < RUNS; run++) {
        double start = cpu_seconds();
        feature_rate_of(f, x, d);
        best = fmin(best, cpu_seconds() - start);
    }
    printf("bench=coding_rate rows=%u dimensions=%u ms=%.3f\n", rows, F, best * 1e3);
    feature_rate_free(&f);
    free(x);
    free(d);
}

int main(int argc, char **argv)
{
    (void)argc;
    double peak = 0;
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    printf("bench=machine kernels=%s blas=%s bf16=%s\n", kernels_name(kernels_chosen()), blas_kernels(),
           kernels_multiply_bf16(kernels_chosen()) ? "yes" : "no");
    for (int k = 0; k < KERNELS_AMX; k++) /* of float32 */
        if (kernels_possible((enum kernels)k)) {
            double rate = peak_gflops((enum kernels)k);
            peak = rate > peak ? rate : peak;
            printf("bench=peak kernels=%s gflops=%.1f\n", kernels_name((enum kernels)k), rate);
        }
    for (int precision = PRECISION_FLOAT32; precision <= PRECISION_BF16; precision++) {
        if (precision == PRECISION_BF16 && !kernels_multiply_bf16(kernels_chosen()))
            break;
        measure_product(256, 128, 1024, precision, peak);
        measure_product(256, 864, 192, precision, peak);
        measure_product(200, 128, 384, precision, peak);
        measure_product(128, 256, 256, precision, peak);
    }
    measure_estep(128, 1024, 128, 50);
    measure_estep(128, 4096, 128, 20);
    measure_estep(128, 65536, 256, 3);
    measure_coding_rate(128, 256);
    measure_coding_rate(256, 256);
    return 0;
}
