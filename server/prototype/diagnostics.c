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

int diagnostics_input_init(struct diagnostics_input *in, const struct mixture *m)
{
    size_t K = m->options.K, D = m->options.D;
    memset(in, 0, sizeof *in);
    in->K = m->options.K;
    in->D = m->options.D;
    in->prototypes = malloc(K * D * sizeof *in->prototypes);
    in->usage = malloc(K * sizeof *in->usage);
    in->held = calloc(K, sizeof *in->held);
    if (in->prototypes && in->usage && in->held)
        return 0;
    diagnostics_input_fini(in);
    return ERR_MEMORY;
}

void diagnostics_input_fini(struct diagnostics_input *in)
{
    free(in->prototypes);
    free(in->usage);
    free(in->held);
    memset(in, 0, sizeof *in);
}

void diagnostics_input_forget(struct diagnostics_input *in)
{
    if (in->held)
        memset(in->held, 0, in->K * sizeof *in->held);
}

static void copy_row(struct diagnostics_input *in, const struct mixture *m, uint32_t k)
{
    size_t D = in->D;
    memcpy(in->prototypes + k * D, m->view->mean + k * D, D * sizeof *in->prototypes);
    vec_normalise_rows(in->prototypes + k * D, 1, D, NULL);
    in->held[k] = m->updated_step[k] + 1;
}

/* Copies at most rows_max rows; true when no more differ. */
static bool copy_rows(struct diagnostics_input *in, const struct mixture *m, uint32_t rows_max)
{
    uint32_t copied = 0, from = in->at;
    for (uint32_t i = 0; i < in->K; i++) {
        uint32_t k = (from + i) % in->K;
        if (in->held[k] == m->updated_step[k] + 1)
            continue;
        in->at = k;
        if (copied++ == rows_max)
            return false;
        copy_row(in, m, k);
        in->copied++;
    }
    return true;
}

bool diagnostics_input_follow(struct diagnostics_input *in, const struct mixture *m, uint32_t window, uint32_t rows_max)
{
    if (!copy_rows(in, m, rows_max) && in->copied < (uint64_t)3 * in->K)
        return false;
    in->copied = 0;
    in->version = m->view->version;
    in->active = mixture_active_percent(m, window);
    memcpy(in->usage, m->usage, in->K * sizeof *in->usage);
    return true;
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

static int measure_cosines(const struct diagnostics_input *in, struct diagnostics *d)
{
    uint32_t counts[DIAGNOSTICS_EPS];
    const struct cosine_survey o = {.x = in->prototypes,
                                    .K = in->K,
                                    .D = in->D,
                                    .eps = diagnostics_eps,
                                    .n = DIAGNOSTICS_EPS,
                                    .counts = counts,
                                    .nearest = in->K >= 2 ? d->nearest : NULL,
                                    .cosine = d->cosine,
                                    .stop = in->stop,
                                    .stop_arg = in->stop_arg};
    int rc = cosine_survey(&o);
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
    int rc = d->nearest && d->cosine ? measure_cosines(in, d) : ERR_MEMORY;
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
