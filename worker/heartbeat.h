/* A file by which a worker shows that its loop is running. Health checks look at it, because a worker listens on no
 * port that they could ask. One line, renewed about once a second:
 *
 *   worker=00f3a1c2b4d5e6f7 parameter=up prototype=up step=120 slots_done=88
 *
 * The file's modification time is the age. Several workers of one user on one machine share the default path; set
 * worker.heartbeat for each of them where it matters which one is alive. */
#ifndef DECANT_WORKER_HEARTBEAT_H
#define DECANT_WORKER_HEARTBEAT_H

#include <stddef.h>
#include "common/error.h"
#include "proto/run_config.h"

enum {
    HEARTBEAT_EVERY_MS = 1000,
    HEARTBEAT_AGE_MAX_S = 30, /* older: the worker is gone or stuck */
    HEARTBEAT_PATH_MAX = 1024,
    HEARTBEAT_LINE_MAX = 256
};

/* worker.heartbeat; if that is empty, decant-worker.alive in $XDG_RUNTIME_DIR, or decant-worker-UID.alive in /tmp. */
int heartbeat_path(const struct run_config *c, char out[HEARTBEAT_PATH_MAX]);
/* line with its newline. Never follows a symbolic link, which another user may have put there. */
int heartbeat_write(const char *path, const char *line, struct error *e);
void heartbeat_remove(const char *path);
/* The newest line, without the newline. ERR_NOT_FOUND: there is none; ERR_STATE: it is too old. */
int heartbeat_read(const char *path, char out[HEARTBEAT_LINE_MAX], struct error *e);

#endif
