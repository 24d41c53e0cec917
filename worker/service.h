/* The worker process: a libuv loop that carries messages between sockets and the session, and jobs between the session
 * and the threads that compute. */
#ifndef DECANT_WORKER_SERVICE_H
#define DECANT_WORKER_SERVICE_H

#include <stdbool.h>
#include "common/error.h"
#include "proto/run_config.h"

/* Works until the run ends or a signal comes: 0. A negative ERR_* with *e when it cannot start or has to give up; then
 * *diverged says whether that is because the run has: no worker would do better. */
int worker_service_run(const struct run_config *config, bool *diverged, struct error *e);

#endif
