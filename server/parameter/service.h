/* The parameter server's outside: one libuv loop with the request and publication sockets, the timer, the signals, the
 * metrics file and the checkpoint writer around the core. */
#ifndef DECANT_SERVER_PARAMETER_SERVICE_H
#define DECANT_SERVER_PARAMETER_SERVICE_H

#include <stdbool.h>
#include "common/error.h"
#include "proto/run_config.h"

enum {
    PARAMETER_MESSAGE_BYTES_MAX = 1 << 30, /* largest frame taken: 256 million parameters */
    PARAMETER_PUBLISH_HWM =
        4, /* messages queued for a slow subscriber; each may hold the whole model, and it can ask */
    PARAMETER_WAITING_MS = 10000, /* between two warnings that the prototype server has not written step T */
    PARAMETER_LINGER_MS = 300,    /* after a drain, so that workers hear STOP */
    PARAMETER_FAREWELL_MS = 2000, /* after step T, for workers to leave first */
    PARAMETER_VISIT_MS =
        45000, /* resumed at step T: for the first worker to come and hear that it is over, slow names included */
};

/* Runs until step T, a drain or an error. resume: continue from the newest complete checkpoint, if there is one.
 * 0 when it ended as it should, with everything on disk; ERR_* with *e otherwise. config outlives the call. */
int parameter_service_run(const struct run_config *config, bool resume, struct error *e);

#endif
