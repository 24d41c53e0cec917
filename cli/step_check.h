/* Is one step fit to be resumed from and used? Both files there and undamaged, of one step, run and configuration, and
 * every number finite. */
#ifndef DECANT_CLI_STEP_CHECK_H
#define DECANT_CLI_STEP_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include "cli/step_list.h"
#include "common/error.h"
#include "proto/provenance.h"

enum { STEP_PROBLEMS_MAX = 8 };

struct step_check {
    bool joint;                   /* as the encoder says */
    struct provenance provenance; /* likewise */
    size_t problem_count;
    struct error problems[STEP_PROBLEMS_MAX]; /* each names the file that it is about */
};

/* No problem means that the step is sound. */
void step_check(const struct step_entry *s, struct step_check *out);

#endif
