/* One JSON object on one line: what every --json option prints. */
#ifndef DECANT_CLI_JSON_PRINT_H
#define DECANT_CLI_JSON_PRINT_H

#include <jansson.h>
#include <stdio.h>
#include "common/error.h"

/* Consumes object; NULL means that building it failed for lack of memory. 0, ERR_MEMORY or ERR_IO. */
int json_print(json_t *object, FILE *f);

#endif
