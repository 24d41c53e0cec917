/* The file says who holds it, which is believed when that process has it open; else the kernel says whether anybody
 * does. Asking the kernel takes the lock for a moment, so that is left for the rare case. */
#include "cli/run_holder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "cli/printable.h"
#include "cli/process_files.h"
#include "common/files.h"

enum { LOCK_PATH_MAX = 1300 };

static void read_name(int fd, struct run_holder *h)
{
    ssize_t n = pread(fd, h->name, sizeof h->name - 1, 0);
    h->name[n > 0 ? n : 0] = '\0';
    h->name[strcspn(h->name, "\r\n")] = '\0';
    printable(h->name);
}

static int open_lock(const char *path, struct error *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        return fd;
    return error_set(e, errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
}

int run_holder_find(const char *out, struct run_holder *h, struct error *e)
{
    char path[LOCK_PATH_MAX];
    *h = (struct run_holder){0};
    if (path_format(path, sizeof path, "%s/lock-launcher", out) != 0)
        return error_set(e, ERR_CONFIG, "the directory's name is too long: %.80s", out);
    int fd = open_lock(path, e);
    if (fd < 0)
        return fd;
    read_name(fd, h);
    close(fd); /* or this process would be one that has it open */
    const char *colon = strrchr(h->name, ':');
    long pid = colon ? strtol(colon + 1, NULL, 10) : 0;
    if (pid > 1 && process_has_open((pid_t)pid, path)) {
        h->pid = (pid_t)pid;
        h->held = true;
        return 0;
    }
    fd = open_lock(path, e);
    if (fd < 0)
        return fd;
    h->held = flock(fd, LOCK_SH | LOCK_NB) != 0;
    close(fd); /* which gives a lock that was free back */
    return 0;
}
