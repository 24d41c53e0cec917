/* One JSON object, or array of them, on one line: what every --json option prints. */
#ifndef DECANT_CLI_JSON_PRINT_H
#define DECANT_CLI_JSON_PRINT_H

#include <jansson.h>
#include <stdio.h>

/* Consumes object; NULL means that building it failed for lack of memory. 0, ERR_MEMORY or ERR_IO. */
int json_print(json_t *object, FILE *f);

/* A string that may hold file names: when it is no UTF-8, every byte beyond ASCII becomes '?'. NULL when out of memory.
 */
json_t *json_print_text(const char *text);

#endif
