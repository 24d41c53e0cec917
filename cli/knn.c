/* Similarities come as one GEMM per tile of queries x bank; a bounded heap per query keeps the k largest seen so far.
 */
#include "cli/knn.h"

#include <cblas.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "cli/parallel.h"
#include "common/heap.h"
#include "common/vecmath.h"

enum {
    QUERY_BLOCK = 128, /* with BANK_TILE: 1 MiB of similarities, which stays in the second-level cache */
    BANK_TILE = 2048,
    CLASSES_MAX = DATASET_CLASSES_MAX,
};

struct neighbour {
    float cosine;
    uint16_t label;
};

/* Working memory of one thread. */
struct knn_scratch {
    float *similarity;          /* (QUERY_BLOCK, BANK_TILE) */
    struct neighbour *nearest;  /* (QUERY_BLOCK, k): a min-heap on cosine for each query */
    uint32_t held[QUERY_BLOCK]; /* entries in each heap */
};

struct knn_job {
    const float *bank, *queries; /* unit rows */
    const uint16_t *bank_labels;
    uint32_t bank_rows, width, k, classes;
    double temperature;
    struct knn_scratch *scratch; /* one per thread */
    uint16_t *predicted;         /* (queries) */
    uint32_t query_rows;
    struct evaluation_meter *meter; /* the first thread's, which is the caller */
};

static bool farther(struct neighbour a, struct neighbour b)
{
    return a.cosine < b.cosine;
}

HEAP_DEFINE(heap, struct neighbour, farther) /* the farthest at the root: the first to give way */

static void offer_row(struct neighbour *heap, uint32_t *held, uint32_t k, const float *cosine, const uint16_t *labels,
                      uint32_t n)
{
    for (uint32_t j = 0; j < n; j++) {
        struct neighbour candidate = {.cosine = cosine[j], .label = labels[j]};
        if (*held < k) {
            heap[(*held)++] = candidate;
            heap_rise(heap, *held - 1);
        } else if (candidate.cosine > heap[0].cosine) {
            heap[0] = candidate;
            heap_sink(heap, k, 0);
        }
    }
}

static uint32_t vote(const struct neighbour *nearest, uint32_t n, uint32_t classes, double temperature)
{
    double votes[CLASSES_MAX] = {0};
    for (uint32_t j = 0; j < n; j++)
        votes[nearest[j].label] += exp(nearest[j].cosine / temperature);
    uint32_t best = 0;
    for (uint32_t c = 1; c < classes; c++)
        if (votes[c] > votes[best])
            best = c;
    return best;
}

static void knn_block(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct knn_job *job = arg;
    struct knn_scratch *s = &job->scratch[thread];
    uint32_t rows = (uint32_t)(end - begin);
    memset(s->held, 0, sizeof s->held);
    for (uint32_t from = 0; from < job->bank_rows; from += BANK_TILE) {
        uint32_t tile = job->bank_rows - from < BANK_TILE ? job->bank_rows - from : BANK_TILE;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)tile, (int)job->width, 1,
                    job->queries + begin * job->width, (int)job->width, job->bank + (size_t)from * job->width,
                    (int)job->width, 0, s->similarity, BANK_TILE);
        for (uint32_t i = 0; i < rows; i++)
            offer_row(s->nearest + (size_t)i * job->k, &s->held[i], job->k, s->similarity + (size_t)i * BANK_TILE,
                      job->bank_labels + from, tile);
    }
    for (uint32_t i = 0; i < rows; i++)
        job->predicted[begin + i] =
            (uint16_t)vote(s->nearest + (size_t)i * job->k, s->held[i], job->classes, job->temperature);
    if (thread == 0)
        evaluation_meter_at(job->meter, (double)end / job->query_rows);
}

static float *unit_rows(const struct feature_set *s)
{
    size_t n = (size_t)s->rows * s->width;
    float *x = malloc(n * sizeof *x);
    if (!x)
        return NULL;
    memcpy(x, s->x, n * sizeof *x);
    vec_normalise_rows(x, s->rows, s->width, NULL);
    return x;
}

static void scratch_free(struct knn_scratch *scratch, unsigned threads)
{
    for (unsigned i = 0; scratch && i < threads; i++) {
        free(scratch[i].similarity);
        free(scratch[i].nearest);
    }
    free(scratch);
}

static struct knn_scratch *scratch_new(unsigned threads, uint32_t k)
{
    struct knn_scratch *scratch = calloc(threads, sizeof *scratch);
    for (unsigned i = 0; scratch && i < threads; i++) {
        scratch[i].similarity = malloc(sizeof(float) * QUERY_BLOCK * BANK_TILE);
        scratch[i].nearest = malloc(sizeof(struct neighbour) * QUERY_BLOCK * k);
        if (!scratch[i].similarity || !scratch[i].nearest) {
            scratch_free(scratch, threads);
            return NULL;
        }
    }
    return scratch;
}

int knn_accuracy(const struct feature_set *bank, const struct feature_set *queries, struct knn_options o,
                 struct accuracy *out)
{
    ASSERT(bank->width == queries->width && bank->rows > 0 && queries->rows > 0 && o.neighbours > 0);
    float *b = unit_rows(bank), *q = unit_rows(queries);
    struct knn_job job = {.bank = b,
                          .queries = q,
                          .bank_labels = bank->labels,
                          .bank_rows = bank->rows,
                          .width = bank->width,
                          .k = o.neighbours < bank->rows ? o.neighbours : bank->rows,
                          .classes = bank->classes,
                          .temperature = o.temperature,
                          .query_rows = queries->rows,
                          .meter = o.meter};
    job.predicted = malloc(sizeof *job.predicted * queries->rows);
    job.scratch = scratch_new(o.threads, job.k);
    int rc = b && q && job.scratch && job.predicted ? 0 : ERR_MEMORY;
    if (rc == 0) {
        parallel_for(queries->rows, QUERY_BLOCK, o.threads, knn_block, &job);
        *out = accuracy_of(queries->labels, job.predicted, queries->rows, bank->classes, queries->third);
    }
    scratch_free(job.scratch, o.threads);
    free(job.predicted);
    free(b);
    free(q);
    return rc;
}
