/* The nearest rows by cli/nearest.h, then the vote. */
#include "cli/knn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/nearest.h"
#include "common/vecmath.h"

/* hits: n of one query. */
static uint32_t vote(const struct nearest_hit *hits, uint32_t n, const uint16_t *labels, uint32_t classes,
                     double temperature)
{
    double votes[DATASET_CLASSES_MAX] = {0};
    for (uint32_t j = 0; j < n; j++)
        votes[labels[hits[j].row]] += exp(hits[j].cosine / temperature);
    uint32_t best = 0;
    for (uint32_t c = 1; c < classes; c++)
        if (votes[c] > votes[best])
            best = c;
    return best;
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

int knn_accuracy(const struct feature_set *bank, const struct feature_set *queries, struct knn_options o,
                 struct accuracy *out)
{
    ASSERT(bank->width == queries->width && bank->rows > 0 && queries->rows > 0 && o.neighbours > 0);
    float *b = unit_rows(bank), *q = unit_rows(queries);
    const struct nearest_search search = {.bank = b,
                                          .queries = q,
                                          .bank_rows = bank->rows,
                                          .query_rows = queries->rows,
                                          .width = bank->width,
                                          .k = o.neighbours < bank->rows ? o.neighbours : bank->rows,
                                          .threads = o.threads,
                                          .meter = o.meter};
    struct nearest_hit *hits = malloc(sizeof *hits * queries->rows * search.k);
    uint16_t *predicted = malloc(sizeof *predicted * queries->rows);
    int rc = b && q && hits && predicted ? nearest_find(&search, hits) : ERR_MEMORY;
    for (uint32_t i = 0; rc == 0 && i < queries->rows; i++)
        predicted[i] =
            (uint16_t)vote(hits + (size_t)i * search.k, search.k, bank->labels, bank->classes, o.temperature);
    if (rc == 0)
        *out = accuracy_of(queries->labels, predicted, queries->rows, bank->classes, queries->third);
    free(hits);
    free(predicted);
    free(b);
    free(q);
    return rc;
}
