/* How often a classifier is right: over all queries; as the mean over classes, which a long tail cannot hide in; and
 * for the thirds of the classes that training has the most images of, the middle, and the fewest. */
#ifndef DECANT_CLI_ACCURACY_H
#define DECANT_CLI_ACCURACY_H

#include <stdint.h>

enum { THIRD_HEAD, THIRD_MEDIUM, THIRD_TAIL, THIRDS };

struct accuracy {
    double percent;       /* of queries labelled right */
    double macro;         /* percent of each class's queries, mean over the classes that have any */
    double third[THIRDS]; /* the same mean over the classes of a third; NAN where none has a query */
};

/* third (classes): which third each class is of, by its number of labels (n); of equal ones the smaller label first.
 * With fewer than three classes all are of the head. classes <= DATASET_CLASSES_MAX. 0 or ERR_MEMORY. */
int accuracy_thirds(const uint16_t *labels, uint32_t n, uint32_t classes, uint8_t *third);

/* labels and predicted (n), n > 0, each < classes <= DATASET_CLASSES_MAX. third (classes) as above; NULL: all of the
 * head. */
struct accuracy accuracy_of(const uint16_t *labels, const uint16_t *predicted, uint32_t n, uint32_t classes,
                            const uint8_t *third);
/* Every figure NAN: not known. */
struct accuracy accuracy_none(void);

#endif
