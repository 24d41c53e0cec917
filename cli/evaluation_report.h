/* An evaluation in words: a table for people, one JSON object for programs. */
#ifndef DECANT_CLI_EVALUATION_REPORT_H
#define DECANT_CLI_EVALUATION_REPORT_H

#include <stdio.h>
#include "cli/evaluation.h"

void evaluation_print(const struct evaluation *v, FILE *f);
/* {"run", "step", "checkpoint", "mode", "knn", "linear", "unique": {"0.025": percent, ...}, "active", "active_unique":
 * {...}, "perplexity", "feature_cover": {...}, "references": {"pixels": {"knn", "linear"}, "random": {...}}}, then a
 * newline. */
int evaluation_print_json(const struct evaluation *v, FILE *f);

#endif
