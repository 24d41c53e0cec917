/* Assignment by blocked GEMM, the rest by common/cosine.h. */
#include "cli/prototype_scores.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/parallel.h"
#include "common/cosine.h"
#include "common/error.h"
#include "common/vecmath.h"

enum { ASSIGN_ROWS = 64 }; /* with K = 1024: 256 KiB of cosines */

const double score_eps[SCORE_EPS] = {0.025, 0.1, 0.25, 0.5};

struct assign_job {
    const float *prototypes, *z;
    uint32_t K, D;
    uint32_t *nearest;                   /* (n) */
    float *cosine[PARALLEL_THREADS_MAX]; /* (ASSIGN_ROWS, K) each */
};

static void assign_block(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct assign_job *job = arg;
    float *cosine = job->cosine[thread];
    int K = (int)job->K, D = (int)job->D, rows = (int)(end - begin);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, K, D, 1, job->z + begin * job->D, D, job->prototypes, D,
                0, cosine, K);
    for (int i = 0; i < rows; i++) {
        const float *row = cosine + (size_t)i * job->K;
        uint32_t best = 0;
        for (uint32_t k = 1; k < job->K; k++)
            if (row[k] > row[best])
                best = k;
        job->nearest[begin + (size_t)i] = best;
    }
}

int prototype_assign(const float *prototypes, uint32_t K, uint32_t D, const float *z, uint32_t n, unsigned threads,
                     uint32_t *nearest)
{
    struct assign_job job = {.prototypes = prototypes, .z = z, .K = K, .D = D, .nearest = nearest};
    bool ok = true;
    ASSERT(K > 0 && threads <= PARALLEL_THREADS_MAX);
    for (unsigned i = 0; i < threads; i++)
        ok = (job.cosine[i] = malloc(sizeof(float) * ASSIGN_ROWS * K)) != NULL && ok;
    if (ok)
        parallel_for(n, ASSIGN_ROWS, threads, assign_block, &job);
    for (unsigned i = 0; i < threads; i++)
        free(job.cosine[i]);
    return ok ? 0 : ERR_MEMORY;
}

static double perplexity(const uint32_t *count, uint32_t K, uint32_t n)
{
    double entropy = 0;
    for (uint32_t k = 0; k < K; k++)
        if (count[k] > 0)
            entropy -= (double)count[k] / n * log((double)count[k] / n);
    return exp(entropy);
}

static int cover_percent(const float *x, uint32_t rows, uint32_t D, uint32_t K, double percent[SCORE_EPS])
{
    uint32_t counts[SCORE_EPS] = {0};
    int rc = rows > 0 ? cosine_cover(x, rows, D, score_eps, SCORE_EPS, counts) : 0;
    for (int i = 0; i < SCORE_EPS; i++)
        percent[i] = 100.0 * counts[i] / K;
    return rc;
}

/* Cover of the rows whose count is above zero. */
static int active_scores(const float *prototypes, uint32_t K, uint32_t D, const uint32_t *count,
                         struct prototype_scores *out)
{
    float *active = malloc(sizeof(float) * K * D);
    uint32_t rows = 0;
    if (!active)
        return ERR_MEMORY;
    for (uint32_t k = 0; k < K; k++)
        if (count[k] > 0)
            memcpy(active + (size_t)rows++ * D, prototypes + (size_t)k * D, D * sizeof(float));
    out->active = 100.0 * rows / K;
    int rc = cover_percent(active, rows, D, K, out->active_unique);
    free(active);
    return rc;
}

int prototype_scores_of(const float *prototypes, uint32_t K, uint32_t D, float *z, uint32_t n, unsigned threads,
                        uint32_t *nearest, struct prototype_scores *out)
{
    ASSERT(K > 0 && n > 0);
    vec_normalise_rows(z, n, D, NULL);
    uint32_t *count = calloc(K, sizeof *count);
    int rc = count ? prototype_assign(prototypes, K, D, z, n, threads, nearest) : ERR_MEMORY;
    if (rc == 0) {
        for (uint32_t i = 0; i < n; i++)
            count[nearest[i]]++;
        out->perplexity = perplexity(count, K, n);
        rc = active_scores(prototypes, K, D, count, out);
    }
    if (rc == 0)
        rc = cover_percent(prototypes, K, D, K, out->unique);
    out->cover_rows = n < COVER_ROWS ? n : COVER_ROWS;
    if (rc == 0)
        rc = cosine_cover(z, out->cover_rows, D, score_eps, SCORE_EPS, out->feature_cover);
    free(count);
    return rc;
}
