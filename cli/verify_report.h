/* What `decant verify` found, for people and as JSON. */
#ifndef DECANT_CLI_VERIFY_REPORT_H
#define DECANT_CLI_VERIFY_REPORT_H

#include <jansson.h>
#include <stdio.h>
#include "cli/step_check.h"
#include "cli/step_compare.h"

void verify_print_comparison(const struct step_comparison *c, FILE *f);
json_t *verify_comparison_json(const struct step_comparison *c);

void verify_print_check(const struct step_entry *s, const struct step_check *c, FILE *f);
json_t *verify_check_json(const struct step_entry *s, const struct step_check *c);

#endif
