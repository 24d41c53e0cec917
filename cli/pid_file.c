/* A process id may have been given to another program since, so the program's name is compared as well. */
#include "cli/pid_file.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/files.h"

enum { PID_PATH_MAX = 1280, PID_TEXT_MAX = 16384 };

static bool is_ours(pid_t pid)
{
    char path[64], program[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool read = fgets(program, sizeof program, f) != NULL;
    fclose(f);
    return read && (strncmp(program, "decant", 6) == 0 || strncmp(program, "redis-server", 12) == 0);
}

int pid_file_check(const char *out, struct error *e)
{
    char path[PID_PATH_MAX], name[64], alive[256] = "";
    int pid;
    FILE *f;
    if (path_format(path, sizeof path, "%s/pids", out) != 0)
        return error_set(e, ERR_CONFIG, "run.out is too long: %s", out);
    int rc = file_open_stream(path, &f, e);
    if (rc != 0)
        return rc == ERR_NOT_FOUND ? 0 : rc;
    while (fscanf(f, "%63s %d", name, &pid) == 2) {
        size_t used = strlen(alive);
        if (pid > 1 && pid != getpid() && kill(pid, 0) == 0 && is_ours(pid))
            snprintf(alive + used, sizeof alive - used, " %d", pid);
    }
    fclose(f);
    if (alive[0] == '\0')
        return 0;
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
