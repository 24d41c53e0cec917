/* What the page gets, as JSON. Text from Redis and files passes through as text: escaping for HTML is the page's, which
 * only ever writes it as the text of an element. Numbers that are unknown are null. docs/DASHBOARD.md lists the fields.
 * Each returns a new reference, or NULL when memory ran out. */
#ifndef DECANT_CLI_DASHBOARD_JSON_H
#define DECANT_CLI_DASHBOARD_JSON_H

#include <jansson.h>
#include "cli/dashboard_run.h"

/* Figures of now, words, workers, servers, events. compare: sentences about this run and another. */
json_t *dashboard_state_json(const struct dashboard_run *r, const struct words *compare);
json_t *dashboard_history_json(const struct dashboard_run *r);
json_t *dashboard_shape_json(const struct dashboard_run *r);

#endif
