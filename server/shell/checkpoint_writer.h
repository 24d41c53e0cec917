/* Writes snapshots on libuv's thread pool, one at a time, while the loop goes on. One more may wait; when a disk is so
 * slow that a third comes, the one that waits is left out (logged): resuming needs a common step, not every step.
 *
 * What is in memory is not given up because a disk is full: a write that failed is tried again after a growing pause,
 * until it succeeds, a newer snapshot takes its place, or somebody says checkpoint_writer_give_up. Training goes on
 * meanwhile. All calls from the loop's thread. */
#ifndef DECANT_SERVER_SHELL_CHECKPOINT_WRITER_H
#define DECANT_SERVER_SHELL_CHECKPOINT_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>
#include "common/error.h"
#include "proto/run_config.h"
#include "proto/server.h"
#include "server/shell/server_metrics.h"

enum {
    CHECKPOINT_SPACE_FACTOR = 4,    /* the other server writes about as much, and both once more before pruning */
    CHECKPOINT_PAUSE_MS = 1000,     /* before the second try; doubles */
    CHECKPOINT_PAUSE_MAX_MS = 10000 /* a person who has freed space should not wait long; looking costs little */
};

/* What the two servers do differently. Called on the pool's thread, but for drop. */
struct checkpoint_kind {
    enum server server;
    int (*write)(const struct run_config *c, const void *snapshot, struct error *e);
    uint64_t (*bytes)(const void *snapshot); /* about how large the file is, for the message that space is missing */
    void (*drop)(void *snapshot);
};

struct checkpoint_job {
    void *snapshot; /* NULL: none */
    uint64_t step;
};

struct checkpoint_writer {
    uv_loop_t *loop;
    const struct run_config *config;
    const struct checkpoint_kind *kind;
    int lock; /* of the run's directory; without it nothing is written: ERR_STATE */
    /* On the loop after each write. ERR_STATE is never tried again. */
    void (*on_written)(void *arg, uint64_t step, const struct error *result);
    void *arg;
    struct checkpoint_record record; /* of all writes */
    /* private */
    uv_work_t work;
    uv_timer_t retry;
    struct checkpoint_job current, next; /* being written, or to be tried again; waiting */
    bool busy, given_up, space_low;
    uint64_t pause_ms; /* before the next try of `current`; 0: its first */
    struct error result;
};

void checkpoint_writer_init(struct checkpoint_writer *w, uv_loop_t *loop, const struct run_config *config,
                            const struct checkpoint_kind *kind,
                            void (*on_written)(void *arg, uint64_t step, const struct error *result), void *arg);
/* Takes the snapshot over. */
void checkpoint_writer_submit(struct checkpoint_writer *w, uint64_t step, void *snapshot);
/* Something is being written, or will be tried again. */
bool checkpoint_writer_busy(const struct checkpoint_writer *w);
/* A failed snapshot is not tried again from now on. */
void checkpoint_writer_give_up(struct checkpoint_writer *w);
/* The newest write's result. */
const struct error *checkpoint_writer_result(const struct checkpoint_writer *w);
/* Closes the timer; when nothing is busy. */
void checkpoint_writer_close(struct checkpoint_writer *w);

#endif
