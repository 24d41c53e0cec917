/* Evaluations of several runs beside each other, one column each: what one regime has that another lacks is seen at a
 * glance. */
#ifndef DECANT_CLI_EVALUATION_COMPARE_H
#define DECANT_CLI_EVALUATION_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "cli/evaluation.h"

enum { EVALUATION_RUNS_MAX = 8 };

/* True when the figures say something about each other: the same training images, as many in the bank and as queries.
 */
bool evaluation_comparable(const struct evaluation *a, const struct evaluation *b);
/* count: 2 to EVALUATION_RUNS_MAX. References, where there are, are those of the first run. */
void evaluation_print_beside(const struct evaluation *v, size_t count, FILE *f);

#endif
