/* `decant-parameter health` and `decant-prototype health`: does the server of this configuration answer? */
#ifndef DECANT_SERVER_SHELL_SERVER_HEALTH_H
#define DECANT_SERVER_SHELL_SERVER_HEALTH_H

#include "proto/process_options.h"
#include "proto/server.h"

/* Asks net.parameter or net.prototype of o->config, with the server's own keys, and prints one line, on stdout when all
 * is well. EXIT_DONE; EXIT_FAILED when nobody answers in time, or for another run. */
int server_health_check(const struct process_options *o, enum server which);

#endif
