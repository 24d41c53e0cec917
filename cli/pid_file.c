/* A number may have been given to another program since, or be of the run that this directory was copied from: a
 * process counts when it holds its log, or the launcher its lock, in this very directory. */
#include "cli/pid_file.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/process_files.h"
#include "common/files.h"

enum { PID_PATH_MAX = 1400, PID_TEXT_MAX = 16384, LOOK_MS = 100 };

static bool is_ours(const char *out, const char *name, pid_t pid)
{
    char path[PID_PATH_MAX];
    const char *format = strcmp(name, "launcher") == 0 ? "%s/lock-%s" : "%s/logs/%s.log";
    return pid > 1 && pid != getpid() && kill(pid, 0) == 0 && path_format(path, sizeof path, format, out, name) == 0 &&
           process_has_open(pid, path);
}

/* " PID PID" of those alive. */
static int list_alive(const char *out, const char *path, char *alive, size_t size, struct error *e)
{
    char name[64];
    int pid;
    FILE *f;
    alive[0] = '\0';
    int rc = file_open_stream(path, &f, e);
    if (rc != 0)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    while (fscanf(f, "%63s %d", name, &pid) == 2) {
        size_t used = strlen(alive);
        if (is_ours(out, name, pid))
            snprintf(alive + used, size - used, " %d", pid);
    }
    fclose(f);
    return 0;
}

int pid_file_check(const char *out, unsigned patience_ms, struct error *e)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    char path[PID_PATH_MAX], alive[256];
    if (path_format(path, sizeof path, "%s/pids", out) != 0)
        return error_set(e, ERR_CONFIG, "run.out is too long: %s", out);
    int rc = list_alive(out, path, alive, sizeof alive, e);
    for (unsigned waited = 0; rc == 0 && alive[0] != '\0' && waited < patience_ms; waited += LOOK_MS) {
        nanosleep(&pause, NULL);
        rc = list_alive(out, path, alive, sizeof alive, e);
    }
    if (rc != 0 || alive[0] == '\0')
        return rc;
    return error_set(e, ERR_STATE,
                     "a run is still at work in %s; wait for it, or stop what is left of it with: kill%s (see %s)", out,
                     alive, path);
}

int pid_file_write(const char *out, const struct pid_entry *entries, size_t n, struct error *e)
{
    char path[PID_PATH_MAX], text[PID_TEXT_MAX];
    size_t used = 0;
    if (path_format(path, sizeof path, "%s/pids", out) != 0)
        return error_set(e, ERR_CONFIG, "run.out is too long: %s", out);
    for (size_t i = 0; i < n && used < sizeof text - 64; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%.40s %d\n", entries[i].name, (int)entries[i].pid);
    struct file_part part = {text, used};
    return file_write_atomic(path, &part, 1, e);
}

void pid_file_remove(const char *out)
{
    char path[PID_PATH_MAX];
    if (path_format(path, sizeof path, "%s/pids", out) == 0)
        unlink(path);
}
