/* Cosines come as one GEMM per tile of queries x bank; a bounded heap per query, in the place of its result, keeps
 * the k largest seen so far. */
#include "cli/nearest.h"

#include <cblas.h>
#include <stdbool.h>
#include <stdlib.h>
#include "cli/parallel.h"
#include "common/error.h"
#include "common/heap.h"

enum {
    QUERY_BLOCK = 128, /* with BANK_TILE: 1 MiB of cosines, which stays in the second-level cache */
    BANK_TILE = 2048,
};

struct job {
    const struct nearest_search *search;
    struct nearest_hit *hits;
    float *cosines[PARALLEL_THREADS_MAX]; /* (QUERY_BLOCK, BANK_TILE) each */
};

/* A total order, so that the result does not depend on tiles. */
static bool farther(struct nearest_hit a, struct nearest_hit b)
{
    return a.cosine < b.cosine || (a.cosine == b.cosine && a.row > b.row);
}

HEAP_DEFINE(heap, struct nearest_hit, farther) /* the farthest at the root: the first to give way */

/* Rows from..from+n-1 of the bank, the k first ones filling the heap. */
static void offer(struct nearest_hit *heap, uint32_t k, const float *cosine, uint32_t from, uint32_t n)
{
    for (uint32_t j = 0; j < n; j++) {
        struct nearest_hit hit = {.cosine = cosine[j], .row = from + j};
        if (hit.row < k) {
            heap[hit.row] = hit;
            heap_rise(heap, hit.row);
        } else if (farther(heap[0], hit)) {
            heap[0] = hit;
            heap_sink(heap, k, 0);
        }
    }
}

/* The heap's root goes behind what is left of the heap, until nothing is. */
static void sort(struct nearest_hit *heap, uint32_t k)
{
    for (uint32_t left = k; left > 1;) {
        struct nearest_hit farthest = heap[0];
        heap[0] = heap[--left];
        heap_sink(heap, left, 0);
        heap[left] = farthest;
    }
}

static void search_block(void *arg, size_t begin, size_t end, unsigned thread)
{
    struct job *job = arg;
    const struct nearest_search *s = job->search;
    struct nearest_hit *hits = job->hits + begin * s->k;
    uint32_t rows = (uint32_t)(end - begin);
    float *cosines = job->cosines[thread];
    for (uint32_t from = 0; from < s->bank_rows; from += BANK_TILE) {
        uint32_t tile = s->bank_rows - from < BANK_TILE ? s->bank_rows - from : BANK_TILE;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)tile, (int)s->width, 1,
                    s->queries + begin * s->width, (int)s->width, s->bank + (size_t)from * s->width, (int)s->width, 0,
                    cosines, BANK_TILE);
        for (uint32_t i = 0; i < rows; i++)
            offer(hits + (size_t)i * s->k, s->k, cosines + (size_t)i * BANK_TILE, from, tile);
    }
    for (uint32_t i = 0; i < rows; i++)
        sort(hits + (size_t)i * s->k, s->k);
    if (thread == 0) /* the caller's */
        evaluation_meter_at(s->meter, (double)end / s->query_rows);
}

int nearest_find(const struct nearest_search *s, struct nearest_hit *hits)
{
    struct job job = {.search = s, .hits = hits};
    bool ok = true;
    ASSERT(s->k > 0 && s->k <= s->bank_rows && s->threads <= PARALLEL_THREADS_MAX);
    for (unsigned i = 0; i < s->threads; i++)
        ok = (job.cosines[i] = malloc(sizeof(float) * QUERY_BLOCK * BANK_TILE)) != NULL && ok;
    if (ok)
        parallel_for(s->query_rows, QUERY_BLOCK, s->threads, search_block, &job);
    for (unsigned i = 0; i < s->threads; i++)
        free(job.cosines[i]);
    return ok ? 0 : ERR_MEMORY;
}
