/* Each block of rows of the result is one GEMM over all of x, so blocks are independent and the sum of each element has
 * one order. */
#include "cli/gram.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include "cli/parallel.h"
#include "common/error.h"

enum { TILE = 64 };

/* LAPACK: eigenvalues of a symmetric matrix. The header of liblapacke is not a dependency. */
void dsyev_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
            const int *lwork, int *info);

struct gram_job {
    const double *x, *mean;
    double *out;
    uint32_t n, F;
    struct gram_progress progress;
};

static void gram_block(void *arg, size_t begin, size_t end, unsigned thread)
{
    const struct gram_job *j = arg;
    size_t F = j->F;
    double *out = j->out + begin * F + begin;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)(end - begin), (int)(F - begin), (int)j->n, 1,
                j->x + begin, (int)F, j->x + begin, (int)F, 0, out, (int)F);
    cblas_dger(CblasRowMajor, (int)(end - begin), (int)(F - begin), -(double)j->n, j->mean + begin, 1, j->mean + begin,
               1, out, (int)F);
    double left = 1 - (double)end / (double)F; /* later blocks are shorter: the triangle that is left */
    if (thread == 0)                           /* the caller's */
        evaluation_meter_at(j->progress.meter, j->progress.share * (1 - left * left));
}

void gram_centred(const double *x, uint32_t n, uint32_t F, const double *mean, unsigned threads,
                  struct gram_progress progress, double *out)
{
    struct gram_job job = {.x = x, .mean = mean, .out = out, .n = n, .F = F, .progress = progress};
    parallel_for(F, TILE, threads, gram_block, &job);
}

static double entropy_rank(const double *eigenvalues, uint32_t F)
{
    double total = 0, entropy = 0;
    for (uint32_t i = 0; i < F; i++)
        total += fmax(eigenvalues[i], 0); /* rounding makes zeros negative */
    for (uint32_t i = 0; i < F; i++)
        if (eigenvalues[i] > 0)
            entropy -= eigenvalues[i] / total * log(eigenvalues[i] / total);
    return exp(entropy);
}

/* The mean is taken out of the copy, for eigenvalues near zero would drown in what a large mean leaves. */
static void centre(const float *x, uint32_t n, uint32_t F, double *out, double *mean)
{
    for (uint32_t f = 0; f < F; f++)
        mean[f] = 0;
    for (size_t i = 0; i < (size_t)n * F; i++)
        mean[i % F] += (double)x[i] / n;
    for (size_t i = 0; i < (size_t)n * F; i++)
        out[i] = x[i] - mean[i % F];
    for (uint32_t f = 0; f < F; f++)
        mean[f] = 0;
}

/* The upper triangle by rows is the lower one by columns, as LAPACK counts. */
static int eigenvalues_of(double *matrix, uint32_t F, double *eigenvalues)
{
    int n = (int)F, query = -1, info = 0;
    double wanted = 0;
    dsyev_("N", "L", &n, matrix, &n, eigenvalues, &wanted, &query, &info);
    int size = (int)wanted;
    double *work = malloc(sizeof(double) * (size_t)size);
    if (!work)
        return ERR_MEMORY;
    dsyev_("N", "L", &n, matrix, &n, eigenvalues, work, &size, &info);
    free(work);
    ASSERT(info == 0);
    return 0;
}

int gram_effective_rank(const float *x, uint32_t n, uint32_t F, unsigned threads, double *out)
{
    ASSERT(n > 0 && F > 0);
    double *copy = malloc(sizeof(double) * n * F), *matrix = malloc(sizeof(double) * F * F);
    double *mean = malloc(sizeof(double) * 2 * F);
    int rc = copy && matrix && mean ? 0 : ERR_MEMORY;
    if (rc == 0) {
        centre(x, n, F, copy, mean);
        gram_centred(copy, n, F, mean, threads, (struct gram_progress){NULL, 0}, matrix);
        rc = eigenvalues_of(matrix, F, mean + F);
    }
    if (rc == 0)
        *out = entropy_rank(mean + F, F);
    free(copy);
    free(matrix);
    free(mean);
    return rc;
}
