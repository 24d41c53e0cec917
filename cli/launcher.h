/* Runs the processes of a training run on this machine, watches over them, and stops them in the order in which nothing
 * is lost:
 *
 *   parameter server   finishes the step, writes its checkpoint, publishes STOP
 *   workers            leave when they hear STOP, after their last statistics are acknowledged
 *   prototype server   has then folded in the same step; writes its checkpoint
 *   private Redis      saves what it holds
 *
 * A process that dies is started again (restarts.h), a server with --resume: both servers then go on from the newest
 * step that both have on disk, and the result is the same bytes. One that keeps failing ends the run, or, if it is a
 * worker, is left alone. */
#ifndef DECANT_CLI_LAUNCHER_H
#define DECANT_CLI_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "cli/launch_plan.h"
#include "common/error.h"

struct launch_result {
    bool interrupted; /* by SIGINT, SIGTERM or SIGHUP */
    bool reported;    /* the failure has been written to log when it happened */
    bool redis_kept;  /* a private Redis ran, and its data are in OUT/redis */
    double seconds;
};

/* Returns when every process has ended. Progress and events go to `log`. 0 also when interrupted; ERR_* with a text
 * that says which log to read when a process failed. */
int launcher_run(const struct launch_plan *plan, char **environment, FILE *log, struct launch_result *result,
                 struct error *e);

#endif
