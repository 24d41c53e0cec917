/* Weighted k-nearest-neighbour classification on cosine similarity, the usual probe of self-supervised features: the k
 * nearest bank features vote for their label with weight exp(cos / temperature). Exact; ties go to the earlier row. */
#ifndef DECANT_CLI_KNN_H
#define DECANT_CLI_KNN_H

#include "cli/accuracy.h"
#include "cli/evaluation_meter.h"
#include "cli/feature_set.h"

struct knn_options {
    uint32_t neighbours; /* k; the whole bank when larger */
    double temperature;
    unsigned threads;
    struct evaluation_meter *meter;
};

/* How often a query's label is voted for. Same width and classes in both sets, neither empty. 0 or ERR_MEMORY. */
int knn_accuracy(const struct feature_set *bank, const struct feature_set *queries, struct knn_options o,
                 struct accuracy *out);

#endif
