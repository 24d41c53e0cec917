/* A process that the launcher started: its life, its log file, and the warnings in it that a person should see.
 *
 * Children run in sessions of their own, so that Ctrl-C in the terminal reaches the launcher only, which then stops
 * them in order. Their output goes straight to the log file: it is complete even when the launcher is killed. */
#ifndef DECANT_CLI_CHILD_H
#define DECANT_CLI_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>
#include <uv.h>
#include "common/error.h"

enum { CHILD_NAME_MAX = 32, CHILD_PATH_MAX = 1400 };

struct child;
typedef void child_on_exit(struct child *c, void *arg);

struct child {
    uv_process_t process;
    char name[CHILD_NAME_MAX]; /* "worker-1": also the log's name */
    char log_path[CHILD_PATH_MAX];
    bool running;
    bool closing;        /* exited, handle not yet released: cannot be spawned again */
    int64_t exit_status; /* of the last run */
    int term_signal;     /* 0, or what killed it */
    int64_t shown;       /* bytes of the log already looked at for warnings */
    child_on_exit *on_exit;
    void *arg;
};

struct child_options {
    const char *name, *log_directory;
    char *const *argv; /* argv[0] is the executable: a path, or a name to look up */
    char *const *environ;
    child_on_exit *on_exit;
    void *arg;
};

/* Starts it with stdin empty, stdout and stderr appended to log_directory/name.log. c must be zeroed or not running. */
int child_spawn(struct child *c, uv_loop_t *loop, const struct child_options *o, struct error *e);
void child_signal(struct child *c, int signal_number); /* nothing when it is not running */
/* The next line of level warn or error, or of what somebody waits for (loading, given weights), in the log that has not
 * been looked at, without its newline; false when there is none yet. Longer lines come in pieces. */
bool child_next_warning(struct child *c, char *line, size_t size);
/* "exit code 3" or "signal 9 (Killed)". */
void child_describe_exit(const struct child *c, char *out, size_t size);

#endif
