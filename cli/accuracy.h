/* How often a classifier is right: over all queries, and as the mean over classes, which a long tail cannot hide in. */
#ifndef DECANT_CLI_ACCURACY_H
#define DECANT_CLI_ACCURACY_H

#include <stdint.h>

struct accuracy {
    double percent; /* of queries labelled right */
    double macro;   /* percent of each class's queries, mean over the classes that have any */
};

/* labels and predicted (n), n > 0, each < classes <= DATASET_CLASSES_MAX. */
struct accuracy accuracy_of(const uint16_t *labels, const uint16_t *predicted, uint32_t n, uint32_t classes);

#endif
