/* Prototypes as a clustering and as a classifier: what labels they gather, though they never saw any. */
#ifndef DECANT_CLI_PROTOTYPE_LABELS_H
#define DECANT_CLI_PROTOTYPE_LABELS_H

#include <stdint.h>

struct prototype_labels {
    uint32_t K;
    int32_t
        *label; /* (K) that of most embeddings nearest to it, the lower one of equals; -1: nothing is nearest to it */
    double purity; /* 0..1: share of the embeddings whose label is their prototype's */
    double nmi;    /* 0..1: mutual information of prototype and label over the mean of their entropies */
};

/* nearest (n) each < K, labels (n), n > 0. 0 or ERR_MEMORY. */
int prototype_labels_of(const uint32_t *nearest, const uint16_t *labels, uint32_t n, uint32_t K,
                        struct prototype_labels *out);
void prototype_labels_fini(struct prototype_labels *p);

/* Labels z (n,D), rows of unit length, by the nearest of those prototypes (K,D) that have a label. 0 or ERR_MEMORY. */
int prototype_labels_classify(const struct prototype_labels *p, const float *prototypes, uint32_t D, const float *z,
                              uint32_t n, unsigned threads, uint16_t *predicted);

#endif
