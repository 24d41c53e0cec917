/* A command that goes on in the background, out of the reach of its terminal, once it has got going: the caller learns
 * whether it did.
 *
 *   struct detach d;
 *   if (detach_fork(&d, &e) != 0) ...;
 *   if (d.child > 0) return detach_wait(&d);    // in the process that was called
 *   ... begin, saying what there is to say ...
 *   detach_ready(&d, "OUT/logs/x.log", &e);     // in the background one; detach_wait returns 0
 *   ... work ...
 */
#ifndef DECANT_CLI_DETACH_H
#define DECANT_CLI_DETACH_H

#include <sys/types.h>
#include "common/error.h"

struct detach {
    pid_t child; /* 0: this is the child */
    int pipe;    /* the child writes one byte when it is ready */
};

/* Two processes return; the child is in a session of its own. ERR_IO, in the one process. */
int detach_fork(struct detach *d, struct error *e);
/* 0 when the child is ready; else, when it has ended before, its exit code. */
int detach_wait(struct detach *d);
/* stdin is empty from now on, stdout and stderr are appended to `log`. */
int detach_ready(struct detach *d, const char *log, struct error *e);

#endif
