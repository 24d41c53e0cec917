/* A parent that dies before prctl is seen by getppid, one that dies after it by the signal. The signal is kept over
 * exec, and nothing in between can lose it. */
#include "cli/child_guard.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "common/log.h"

int child_guard(int argc, char **argv)
{
    if (argc < CHILD_GUARD_ARGUMENTS)
        return CHILD_GUARD_NOT_STARTED;
    long parent = strtol(argv[1], NULL, 10);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        log_warn("event=unguarded cause=\"%s\" hint=\"it will outlive a launcher that is killed\"", strerror(errno));
    if (getppid() != parent)
        return CHILD_GUARD_NOT_STARTED;
    execvp(argv[2], argv + 2);
    log_error("event=not_started program=\"%s\" cause=\"%s\"", argv[2], strerror(errno));
    return CHILD_GUARD_NOT_STARTED;
}
