/* An evaluation in words: a table for people, one JSON object for programs. */
#ifndef DECANT_CLI_EVALUATION_REPORT_H
#define DECANT_CLI_EVALUATION_REPORT_H

#include <stdio.h>
#include "cli/evaluation.h"

void evaluation_print(const struct evaluation *v, FILE *f);
/* One object, then a newline: {"run", "step", "checkpoint", "mode", "components", "classes", "bank", "queries",
 * "held_out", "knn", "linear", "ridge", "knn_projections", "prototype_classifier", "macro": {the same}, "thirds":
 * {"classes", "images" and each accuracy: [head, medium, tail]}, "few_shot": {"0.01": {"mean", "deviation", "draws",
 * "images"}, "0.1"}, "purity", "nmi", "effective_rank": {"features", "projections"}, "unique": {"0.025": percent,
 * ...}, "active", "active_unique", "perplexity", "usage_perplexity", "feature_cover", "references": {"pixels":
 * {"knn", "linear", "ridge", "macro"}, "random"}}. What is not known is null. */
int evaluation_print_json(const struct evaluation *v, FILE *f);
/* An array of such objects. */
int evaluations_print_json(const struct evaluation *v, size_t count, FILE *f);

#endif
