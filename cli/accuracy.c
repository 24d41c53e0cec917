/* Counting. */
#include "cli/accuracy.h"

#include "common/error.h"
#include "worker/data/limits.h"

struct accuracy accuracy_of(const uint16_t *labels, const uint16_t *predicted, uint32_t n, uint32_t classes)
{
    uint32_t right[DATASET_CLASSES_MAX] = {0}, all[DATASET_CLASSES_MAX] = {0}, total = 0, present = 0;
    double sum = 0;
    ASSERT(n > 0 && classes <= DATASET_CLASSES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        all[labels[i]]++;
        right[labels[i]] += predicted[i] == labels[i];
    }
    for (uint32_t c = 0; c < classes; c++) {
        total += right[c];
        present += all[c] > 0;
        sum += all[c] > 0 ? (double)right[c] / all[c] : 0;
    }
    return (struct accuracy){.percent = 100.0 * total / n, .macro = 100 * sum / present};
}
