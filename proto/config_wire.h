/* The configuration of a run in a message: what a server adds to the ERROR by which it refuses a process with another
 * one, so that the message can name the keys. Only keys that shape the result are in it: no address, path or secret.
 *
 *   config  U8 (n)   an INI file (common/config.h) */
#ifndef DECANT_PROTO_CONFIG_WIRE_H
#define DECANT_PROTO_CONFIG_WIRE_H

#include <stddef.h>
#include "proto/msg.h"
#include "proto/run_config.h"

/* 0, ERR_MEMORY, or ERR_RANGE when m has no room. */
int config_wire_add(const struct run_config *c, struct msg *m);
/* "KEY = the server's, not ours; ..." cut to size, and how many keys there are; 0 with an empty text when m does not
 * tell, or nothing differs that this version knows. */
size_t config_wire_differences(const struct msg *m, const struct run_config *own, char *text, size_t size);

#endif
