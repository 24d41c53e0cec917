/* One EM iteration of a diagonal mixture by what the product does of it: E-step in slots, their statistics, their
 * sum, the M-step. Beside it what sgemm of OpenBLAS makes of the same logits, so that the rate can be judged. Reads
 * rows and means as raw float32, and writes the means and variances that come out. For tests/bench/bench_mixture.py.
 *
 * Usage: bench_mixture ROWS.f32 MEANS.f32 N K D OUT.f32      variances are 1/D, weights 1/K */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/kernels.h"
#include "common/blas.h"
#include "common/vecmath.h"
#include "tests/bench/bench_mixture.h"
#include "worker/estep.h"

enum { SGEMM_ROWS = 256, SGEMM_RUNS = 20 };

struct bench {
    uint32_t N, K, D;
    float *h; /* (N,D) */
    struct estep *estep;
    double loglik; /* of the newest iteration, per row */
};

static void iterate(struct bench *b, struct mixture *m)
{
    struct stats_rows sum;
    b->loglik = 0;
    estep_use(b->estep, m->view);
    for (uint32_t first = 0; first < b->N; first += SLOT) {
        uint32_t rows = b->N - first < SLOT ? b->N - first : SLOT;
        struct estep_result result;
        struct stats_rows next;
        const float *h = b->h + (size_t)first * b->D;
        estep_run(b->estep, h, rows, &result);
        must(stats_accumulate(h, &result.gamma, b->K, b->D, COVARIANCE_DIAGONAL, first == 0 ? &sum : &next));
        if (first > 0)
            must(stats_rows_add(&sum, &next));
        b->loglik += result.extra.loglik / b->N;
    }
    must(mixture_em_step(m, &sum, 1));
    stats_rows_fini(&sum);
}

/* GFLOP/s of (rows,2D) x (2D,K): the logits. */
static double sgemm_rate(const struct bench *b)
{
    size_t K = b->K, width = 2 * (size_t)b->D;
    float *x = calloc(SGEMM_ROWS * width, sizeof *x), *w = calloc(K * width, sizeof *w);
    float *y = calloc(SGEMM_ROWS * K, sizeof *y);
    double best = 0;
    if (!x || !w || !y)
        abort();
    for (int i = 0; i < SGEMM_RUNS; i++) {
        double from = cpu_seconds();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SGEMM_ROWS, (int)K, (int)width, 1, x, (int)width, w,
                    (int)width, 0, y, (int)K);
        double rate = 2.0 * SGEMM_ROWS * (double)K * (double)width / (cpu_seconds() - from) / 1e9;
        best = rate > best ? rate : best;
    }
    free(x);
    free(w);
    free(y);
    return best;
}

static void write_result(const struct mixture *m, const char *path)
{
    size_t n = (size_t)m->options.K * m->options.D;
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(m->view->mean, sizeof(float), n, f) != n ||
        fwrite(m->view->variance, sizeof(float), n, f) != n || fclose(f) != 0) {
        fprintf(stderr, "bench_mixture: cannot write %s\n", path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: bench_mixture ROWS.f32 MEANS.f32 N K D OUT.f32\n");
        return 2;
    }
    struct bench b = {.N = (uint32_t)atol(argv[3]), .K = (uint32_t)atol(argv[4]), .D = (uint32_t)atol(argv[5])};
    compute_thread_init();
    blas_restart_if_behind(argv);
    blas_single_threaded();
    b.h = read_floats(argv[1], (size_t)b.N * b.D);
    float *means = read_floats(argv[2], (size_t)b.K * b.D);
    must(estep_new(SLOT, b.K, b.D, (struct estep_options){.drop = 1e-6f, .covariance = COVARIANCE_DIAGONAL}, &b.estep));
    struct mixture *warm = mixture_around(means, b.K, b.D), *m = mixture_around(means, b.K, b.D);
    m->view->version = 1; /* another than the warm one's, so that its operand is packed anew */
    iterate(&b, warm);
    double from = cpu_seconds();
    iterate(&b, m);
    double took = cpu_seconds() - from; /* not in the call below, whose arguments are computed in any order */
    printf("{\"seconds\": %.6f, \"loglik\": %.9g, \"sgemm_gflops\": %.1f, \"kernels\": \"%s\", \"blas\": \"%s\"}\n",
           took, b.loglik, sgemm_rate(&b), kernels_name(kernels_chosen()), blas_kernels());
    write_result(m, argv[6]);
    mixture_free(&warm);
    mixture_free(&m);
    estep_free(&b.estep);
    free(b.h);
    free(means);
    return 0;
}
