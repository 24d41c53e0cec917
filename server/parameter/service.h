/* The parameter server as a process: what it does differently around the shell that both servers share
 * (server/shell/shell.h). */
#ifndef DECANT_SERVER_PARAMETER_SERVICE_H
#define DECANT_SERVER_PARAMETER_SERVICE_H

#include <stdbool.h>
#include "common/error.h"
#include "proto/run_config.h"

/* Runs until step T, a drain or an error. resume: continue from the newest complete checkpoint, if there is one.
 * 0 when it ended as it should, with everything on disk; ERR_* with *e otherwise. config outlives the call. */
int parameter_service_run(const struct run_config *config, bool resume, struct error *e);

#endif
