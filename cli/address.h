/* HOST:PORT as people type it. */
#ifndef DECANT_CLI_ADDRESS_H
#define DECANT_CLI_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include "common/error.h"

/* "HOST:PORT", "HOST" (keeps *port), ":PORT" (127.0.0.1), or an absolute path (a unix socket, keeps *port). ERR_CONFIG
 * when it is none of these or does not fit. */
int address_parse(const char *text, char *host, size_t host_size, int64_t *port, struct error *e);

#endif
