/* Spawning on libuv, and reading back of the log by position. */
#include "cli/child.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "common/files.h"

static void on_closed(uv_handle_t *handle)
{
    struct child *c = handle->data;
    c->closing = false;
}

static void on_process_exit(uv_process_t *process, int64_t status, int term_signal)
{
    struct child *c = process->data;
    c->running = false;
    c->closing = true;
    c->exit_status = status;
    c->term_signal = term_signal;
    uv_close((uv_handle_t *)process, on_closed);
    c->on_exit(c, c->arg);
}

static int open_log(struct child *c, const char *directory, struct error *e)
{
    if (path_format(c->log_path, sizeof c->log_path, "%s/%s.log", directory, c->name) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s/%s.log", directory, c->name);
    int fd, rc = file_open(c->log_path, O_WRONLY | O_CREAT | O_APPEND, &fd, e);
    if (rc != 0)
        return rc;
    c->shown = lseek(fd, 0, SEEK_END); /* what an earlier run wrote has been shown then */
    return fd;
}

int child_spawn(struct child *c, uv_loop_t *loop, const struct child_options *o, struct error *e)
{
    ASSERT(!c->running && !c->closing);
    snprintf(c->name, sizeof c->name, "%s", o->name);
    c->on_exit = o->on_exit;
    c->arg = o->arg;
    int fd = open_log(c, o->log_directory, e);
    if (fd < 0)
        return fd;
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = fd},
        {.flags = UV_INHERIT_FD, .data.fd = fd},
    };
    uv_process_options_t options = {.file = o->argv[0],
                                    .args = (char **)o->argv,
                                    .env = (char **)o->environ,
                                    .stdio = stdio,
                                    .stdio_count = 3,
                                    .flags = UV_PROCESS_DETACHED,
                                    .exit_cb = on_process_exit};
    c->process.data = c;
    int rc = uv_spawn(loop, &c->process, &options);
    close(fd);
    if (rc == 0) {
        c->running = true;
        return 0;
    }
    c->closing = true; /* a handle that failed to start still has to be released */
    uv_close((uv_handle_t *)&c->process, on_closed);
    return error_set(e, ERR_IO, "cannot start %s: %s", o->argv[0], uv_strerror(rc));
}

void child_signal(struct child *c, int signal_number)
{
    if (c->running)
        uv_process_kill(&c->process, signal_number);
}

/* Lines are logfmt with the level as second word, but for what a program says before it has a log: "decant-worker:
 * ...". Sanitizers, assertions and shared libraries write what they like. */
static bool deserves_showing(const char *line)
{
    static const char *const told[] = {" event=init ", " event=loading_progress "}; /* that somebody waits for */
    for (size_t i = 0; i < sizeof told / sizeof told[0]; i++)
        if (strstr(line, told[i]) != NULL)
            return true;
    return strncmp(line, "decant-", 7) == 0 || strstr(line, " warn ") != NULL || strstr(line, " error ") != NULL ||
           strstr(line, "assert") != NULL || strstr(line, "ERROR: ") != NULL;
}

bool child_next_warning(struct child *c, char *line, size_t size)
{
    FILE *log;
    bool found = false;
    if (c->log_path[0] == '\0' || file_open_stream(c->log_path, &log, NULL) != 0)
        return false;
    fseek(log, (long)c->shown, SEEK_SET);
    while (!found && fgets(line, (int)size, log)) {
        size_t length = strlen(line);
        bool whole = line[length - 1] == '\n';
        if (!whole && length + 1 < size)
            break; /* still being written: next time */
        c->shown += (int64_t)length;
        found = deserves_showing(line);
        line[length - whole] = '\0';
    }
    fclose(log);
    return found;
}

void child_describe_exit(const struct child *c, char *out, size_t size)
{
    if (c->term_signal != 0)
        snprintf(out, size, "signal %d (%s)", c->term_signal, strsignal(c->term_signal));
    else
        snprintf(out, size, "exit code %" PRId64, c->exit_status);
}
