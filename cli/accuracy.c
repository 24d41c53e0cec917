/* Counting. */
#include "cli/accuracy.h"

#include <math.h>
#include <stdlib.h>
#include "common/error.h"
#include "worker/data/limits.h"

struct class_size {
    uint32_t images, label;
};

static int larger_first(const void *a, const void *b)
{
    const struct class_size *x = a, *y = b;
    if (x->images != y->images)
        return x->images > y->images ? -1 : 1;
    return x->label < y->label ? -1 : x->label > y->label;
}

int accuracy_thirds(const uint16_t *labels, uint32_t n, uint32_t classes, uint8_t *third)
{
    struct class_size *sizes = calloc(classes, sizeof *sizes);
    if (sizes == NULL)
        return ERR_MEMORY;
    for (uint32_t c = 0; c < classes; c++)
        sizes[c].label = c;
    for (uint32_t i = 0; i < n; i++)
        sizes[labels[i]].images++;
    qsort(sizes, classes, sizeof *sizes, larger_first);
    for (uint32_t rank = 0; rank < classes; rank++)
        third[sizes[rank].label] = (uint8_t)(classes < THIRDS ? THIRD_HEAD : rank * THIRDS / classes);
    free(sizes);
    return 0;
}

/* Means over classes that have queries; part < 0 takes classes of every third. */
static double mean_over_classes(const uint32_t *right, const uint32_t *all, uint32_t classes, const uint8_t *third,
                                int part)
{
    double sum = 0;
    uint32_t present = 0;
    for (uint32_t c = 0; c < classes; c++)
        if (all[c] > 0 && (part < 0 || (third ? third[c] : THIRD_HEAD) == part)) {
            present++;
            sum += (double)right[c] / all[c];
        }
    return present > 0 ? 100 * sum / present : NAN;
}

struct accuracy accuracy_of(const uint16_t *labels, const uint16_t *predicted, uint32_t n, uint32_t classes,
                            const uint8_t *third)
{
    uint32_t right[DATASET_CLASSES_MAX] = {0}, all[DATASET_CLASSES_MAX] = {0}, total = 0;
    struct accuracy a;
    ASSERT(n > 0 && classes <= DATASET_CLASSES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        all[labels[i]]++;
        right[labels[i]] += predicted[i] == labels[i];
        total += predicted[i] == labels[i];
    }
    a.percent = 100.0 * total / n;
    a.macro = mean_over_classes(right, all, classes, third, -1);
    for (int part = 0; part < THIRDS; part++)
        a.third[part] = mean_over_classes(right, all, classes, third, part);
    return a;
}

struct accuracy accuracy_none(void)
{
    return (struct accuracy){.percent = NAN, .macro = NAN, .third = {NAN, NAN, NAN}};
}
