/* The prototype server as a process: sockets, signals, files and Redis around the core, on one libuv loop. */
#ifndef DECANT_SERVER_PROTOTYPE_SERVICE_H
#define DECANT_SERVER_PROTOTYPE_SERVICE_H

#include <stdbool.h>
#include "common/error.h"
#include "proto/run_config.h"

/* Serves until SIGTERM or SIGINT, then checkpoints and returns. resume: start from the newest checkpoint both servers
 * have. 0 after an orderly stop; ERR_* when it could not start or the last checkpoint could not be written. */
int prototype_service_run(const struct run_config *config, bool resume, struct error *e);

#endif
