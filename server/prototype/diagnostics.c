/* Diagnostics of a snapshot: cover and neighbours from common/cosine, the spectrum from LAPACK. */
#include "server/prototype/diagnostics.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/cosine.h"
#include "common/error.h"
#include "common/vecmath.h"

const double diagnostics_eps[DIAGNOSTICS_EPS] = {0.025, 0.1, 0.25, 0.5};
const char *const diagnostics_eps_name[DIAGNOSTICS_EPS] = {"unique_0025", "unique_01", "unique_025", "unique_05"};

/* LAPACK: eigenvalues of a symmetric matrix. The header of liblapacke is not a dependency. */
void dsyev_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
            const int *lwork, int *info);

int diagnostics_input_of(const struct mixture *m, uint32_t window, struct diagnostics_input *out)
{
    size_t K = m->options.K, D = m->options.D;
    memset(out, 0, sizeof *out);
    out->prototypes = malloc(K * D * sizeof *out->prototypes);
    out->usage = malloc(K * sizeof *out->usage);
    if (out->prototypes == NULL || out->usage == NULL) {
        diagnostics_input_fini(out);
        return ERR_MEMORY;
    }
    out->version = m->view->version;
    out->K = m->options.K;
    out->D = m->options.D;
    out->active = mixture_active_percent(m, window);
    memcpy(out->usage, m->usage, K * sizeof *out->usage);
    memcpy(out->prototypes, m->view->mean, K * D * sizeof *out->prototypes);
    vec_normalise_rows(out->prototypes, K, D, NULL);
    return 0;
}

void diagnostics_input_fini(struct diagnostics_input *in)
{
    free(in->prototypes);
    free(in->usage);
    memset(in, 0, sizeof *in);
}

/* covariance (D,D), lower triangle by columns = sum_k (x_k - mean)(x_k - mean)^T, in blocks of rows made double. */
static void scatter_matrix(const float *x, uint32_t K, uint32_t D, double *block, uint32_t rows, double *mean,
                           double *covariance)
{
    memset(mean, 0, D * sizeof *mean);
    for (size_t i = 0; i < (size_t)K * D; i++)
        mean[i % D] += (double)x[i] / K;
    memset(covariance, 0, (size_t)D * D * sizeof *covariance);
    for (uint32_t k = 0; k < K; k += rows) {
        uint32_t n = K - k < rows ? K - k : rows;
        for (size_t i = 0; i < (size_t)n * D; i++)
            block[i] = (double)x[(size_t)k * D + i] - mean[i % D];
        cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, (int)D, (int)n, 1, block, (int)D, 1, covariance, (int)D);
    }
}

static double entropy_rank(const double *eigenvalues, uint32_t D)
{
    double total = 0, entropy = 0;
    for (uint32_t d = 0; d < D; d++)
        total += eigenvalues[d] > 0 ? eigenvalues[d] : 0;
    if (total <= 1e-12)
        return 1;
    for (uint32_t d = 0; d < D; d++)
        if (eigenvalues[d] > 0)
            entropy -= eigenvalues[d] / total * log(eigenvalues[d] / total);
    return exp(entropy);
}

int effective_rank(const float *x, uint32_t K, uint32_t D, double *out)
{
    enum { ROWS = 256 };
    int n = (int)D, lwork = 34 * n, info = 0; /* dsyev wants at least 3n - 1; block size 32 is its usual best */
    size_t d = D;
    double *memory = malloc((d * d + ROWS * d + d + d + (size_t)lwork) * sizeof *memory);
    if (memory == NULL)
        return ERR_MEMORY;
    double *covariance = memory, *block = covariance + d * d, *mean = block + ROWS * d, *eigenvalues = mean + d;
    scatter_matrix(x, K, D, block, ROWS, mean, covariance);
    dsyev_("N", "L", &n, covariance, &n, eigenvalues, eigenvalues + d, &lwork, &info);
    ASSERT(info == 0); /* the matrix is finite and symmetric by construction */
    *out = entropy_rank(eigenvalues, D);
    free(memory);
    return 0;
}

static int measure_unique(const struct diagnostics_input *in, struct diagnostics *d)
{
    uint32_t counts[DIAGNOSTICS_EPS];
    int rc = cosine_cover(in->prototypes, in->K, in->D, diagnostics_eps, DIAGNOSTICS_EPS, counts);
    for (size_t i = 0; rc == 0 && i < DIAGNOSTICS_EPS; i++)
        d->unique[i] = 100.0 * counts[i] / in->K;
    return rc;
}

int diagnostics_run(const struct diagnostics_input *in, struct diagnostics **out)
{
    struct diagnostics *d = calloc(1, sizeof *d);
    *out = NULL;
    if (d == NULL)
        return ERR_MEMORY;
    d->version = in->version;
    d->K = in->K;
    d->active = in->active;
    d->perplexity = mixture_usage_perplexity(in->usage, in->K);
    d->nearest = calloc(in->K, sizeof *d->nearest);
    d->cosine = calloc(in->K, sizeof *d->cosine);
    int rc = d->nearest && d->cosine ? measure_unique(in, d) : ERR_MEMORY;
    if (rc == 0 && in->K >= 2)
        rc = cosine_nearest(in->prototypes, in->K, in->D, d->nearest, d->cosine);
    if (rc == 0)
        rc = effective_rank(in->prototypes, in->K, in->D, &d->effective_rank);
    if (rc != 0)
        diagnostics_free(&d);
    *out = d;
    return rc;
}

void diagnostics_free(struct diagnostics **out)
{
    struct diagnostics *d = *out;
    if (d == NULL)
        return;
    free(d->nearest);
    free(d->cosine);
    free(d);
    *out = NULL;
}
