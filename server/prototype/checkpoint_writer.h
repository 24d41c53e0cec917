/* Writes checkpoints on libuv's thread pool from snapshots taken on the loop. One is written at a time and at most one
 * waits; when a disk is so slow that a second would have to wait, the older of the two is left out (logged): resuming
 * needs a common step, not every step. */
#ifndef DECANT_SERVER_PROTOTYPE_CHECKPOINT_WRITER_H
#define DECANT_SERVER_PROTOTYPE_CHECKPOINT_WRITER_H

#include <uv.h>
#include "common/error.h"

struct checkpoint_writer {
    uv_loop_t *loop;
    const struct run_config *config;
    int lock;                          /* of the run's directory; without it nothing is written: ERR_STATE */
    struct mixture *writing, *waiting; /* snapshots */
    uint64_t total_steps;              /* of the run: known before the first version that is worth a checkpoint */
    uv_work_t work;
    int rc; /* of the newest write */
    struct error error;
    void (*on_written)(void *arg, uint64_t step, int rc); /* on the loop, after each write */
    void *arg;
};

/* Takes a snapshot of m and writes it when the disk is free. 0 or ERR_MEMORY. */
int checkpoint_writer_offer(struct checkpoint_writer *w, const struct mixture *m, uint64_t total_steps);

#endif
