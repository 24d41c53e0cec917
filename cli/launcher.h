/* Runs the processes of a training run on this machine, watches over them, and stops them in the order in which nothing
 * is lost:
 *
 *   parameter server   finishes the step, writes its checkpoint, publishes STOP
 *   workers            leave when they hear STOP, after their last statistics are acknowledged
 *   prototype server   has then folded in the same step; writes its checkpoint
 *   private Redis      saves what it holds
 *
 * A process that dies is started again (supervision.h decides), a server with --resume: both servers then go on from
 * the newest step that both have on disk, and the result is the same bytes. One that keeps failing ends the run, or, if
 * it is a worker, is left alone. A run that has diverged ends at once: no attempt would come to another end.
 *
 * Whatever ends the launcher ends the others (child_guard.h). It is stopped in order by SIGINT, SIGTERM, SIGHUP (unless
 * ignored, as by nohup), SIGUSR1, SIGUSR2 (which batch systems send before their time limit), and by the end of
 * whoever reads its messages through a pipe; at once by SIGQUIT, and by a second SIGINT. */
#ifndef DECANT_CLI_LAUNCHER_H
#define DECANT_CLI_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "cli/launch_plan.h"
#include "cli/supervision.h"
#include "common/error.h"

struct launch_result {
    enum supervision_outcome outcome; /* OUTCOME_FAILED also when it could not begin */
    bool complete;                    /* the run is, to its last step, and on disk */
    bool was_complete;                /* it was so before */
    bool reported;                    /* the failure has been written to log when it happened */
    double seconds;
};

/* Returns when every process has ended. Progress and events go to `log`, events also to OUT/logs/launcher.log. 0 when
 * nothing failed, which an interrupted run has not; ERR_* with a text that says which log to read. SIGPIPE is ignored
 * from then on. */
int launcher_run(const struct launch_plan *plan, char **environment, FILE *log, struct launch_result *result,
                 struct error *e);

#endif
