/* Shared by config.c and config_sources.c only. */
#ifndef DECANT_COMMON_CONFIG_INTERNAL_H
#define DECANT_COMMON_CONFIG_INTERNAL_H

#include "common/config.h"

enum { CONFIG_VALUE_MAX = 4096 }; /* bytes of a value's text with its NUL; longer fields would be cut when written */

/* Index of the key of that name, or ERR_CONFIG with the nearest known name in the text. */
int config_find(const struct config_key *keys, size_t n, const char *name, const char *origin, size_t *out,
                struct error *e);
/* Checks text and stores it in key's field of target; leaves the field alone on an error. */
int config_parse(const struct config_key *key, void *target, const char *text, const char *origin, struct error *e);

#endif
