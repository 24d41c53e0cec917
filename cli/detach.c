/* fork, setsid, and a pipe between the two. */
#include "cli/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli/command.h"

int detach_fork(struct detach *d, struct error *e)
{
    int ends[2];
    fflush(NULL); /* or both processes would write it */
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(e, ERR_IO, "no pipe to the background: %s", strerror(errno));
    d->child = fork();
    if (d->child < 0) {
        close(ends[0]);
        close(ends[1]);
        return error_set(e, ERR_IO, "cannot go into the background: %s", strerror(errno));
    }
    if (d->child == 0)
        setsid(); /* a process that was just forked leads no group: this cannot fail */
    d->pipe = ends[d->child == 0];
    close(ends[d->child != 0]);
    return 0;
}

int detach_wait(struct detach *d)
{
    char byte;
    int status = 0;
    ssize_t n;
    while ((n = read(d->pipe, &byte, 1)) < 0 && errno == EINTR)
        ;
    close(d->pipe);
    if (n == 1)
        return COMMAND_DONE;
    while (waitpid(d->child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : COMMAND_FAILED;
}

int detach_ready(struct detach *d, const char *log, struct error *e)
{
    int empty = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    fflush(NULL);
    bool ok = empty >= 0 && out >= 0 && dup2(empty, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
              dup2(out, STDERR_FILENO) >= 0;
    int reason = errno;
    if (empty >= 0)
        close(empty);
    if (out >= 0)
        close(out);
    if (!ok)
        return error_set(e, ERR_IO, "%s: %s", log, strerror(reason));
    ok = write(d->pipe, "", 1) == 1;
    close(d->pipe);
    return ok ? 0 : error_set(e, ERR_IO, "whoever started this is gone"); /* killed meanwhile: nobody was told */
}
