/* Pairs (prototype, label) are sorted, so that memory follows the embeddings and not prototypes times classes. */
#include "cli/prototype_labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/prototype_scores.h"
#include "common/error.h"
#include "worker/data/limits.h"

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint32_t prototype_of(uint64_t pair)
{
    return (uint32_t)(pair >> 16);
}

static uint16_t label_of(uint64_t pair)
{
    return (uint16_t)pair;
}

/* x log x, x a count out of n. */
static double plogp(uint32_t count, uint32_t n)
{
    double p = (double)count / n;
    return count > 0 ? p * log(p) : 0;
}

/* Sums over the runs of equal pairs and of equal prototypes. */
struct sums {
    double joint, prototypes; /* -entropies */
    uint32_t pure;            /* embeddings that have the label of their prototype's majority */
};

static struct sums walk(const uint64_t *pairs, uint32_t n, int32_t *label)
{
    struct sums s = {0};
    for (uint32_t i = 0, end; i < n; i = end) {
        uint32_t k = prototype_of(pairs[i]), most = 0;
        for (uint32_t j = end = i; end < n && prototype_of(pairs[end]) == k; j = end) {
            while (end < n && pairs[end] == pairs[j])
                end++;
            s.joint += plogp(end - j, n);
            if (end - j > most) {
                most = end - j;
                label[k] = label_of(pairs[j]);
            }
        }
        s.prototypes += plogp(end - i, n);
        s.pure += most;
    }
    return s;
}

static double label_sum(const uint16_t *labels, uint32_t n)
{
    uint32_t count[DATASET_CLASSES_MAX] = {0};
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        count[labels[i]]++;
    for (uint32_t c = 0; c < DATASET_CLASSES_MAX; c++)
        sum += plogp(count[c], n);
    return sum;
}

int prototype_labels_of(const uint32_t *nearest, const uint16_t *labels, uint32_t n, uint32_t K,
                        struct prototype_labels *out)
{
    ASSERT(n > 0 && K > 0);
    uint64_t *pairs = malloc(sizeof *pairs * n);
    *out = (struct prototype_labels){.K = K, .label = malloc(sizeof *out->label * K)};
    if (!pairs || !out->label) {
        free(pairs);
        prototype_labels_fini(out);
        return ERR_MEMORY;
    }
    for (uint32_t i = 0; i < n; i++)
        pairs[i] = (uint64_t)nearest[i] << 16 | labels[i];
    for (uint32_t k = 0; k < K; k++)
        out->label[k] = -1;
    qsort(pairs, n, sizeof *pairs, ascending);
    struct sums s = walk(pairs, n, out->label);
    double by_label = label_sum(labels, n), mean = -(s.prototypes + by_label) / 2;
    out->purity = (double)s.pure / n;
    out->nmi = mean > 0 ? fmax(s.joint - s.prototypes - by_label, 0) / mean : 1; /* one prototype, one label */
    free(pairs);
    return 0;
}

void prototype_labels_fini(struct prototype_labels *p)
{
    free(p->label);
    p->label = NULL;
}

int prototype_labels_classify(const struct prototype_labels *p, const float *prototypes, uint32_t D, const float *z,
                              uint32_t n, unsigned threads, uint16_t *predicted)
{
    float *labelled = malloc(sizeof(float) * p->K * D);
    int32_t *label = malloc(sizeof *label * p->K);
    uint32_t *nearest = malloc(sizeof *nearest * n), count = 0;
    int rc = labelled && label && nearest ? 0 : ERR_MEMORY;
    for (uint32_t k = 0; rc == 0 && k < p->K; k++)
        if (p->label[k] >= 0) {
            memcpy(labelled + (size_t)count * D, prototypes + (size_t)k * D, D * sizeof(float));
            label[count++] = p->label[k];
        }
    if (rc == 0)
        rc = prototype_assign(labelled, count, D, z, n, threads, nearest);
    for (uint32_t i = 0; rc == 0 && i < n; i++)
        predicted[i] = (uint16_t)label[nearest[i]];
    free(labelled);
    free(label);
    free(nearest);
    return rc;
}
