/* Writes checkpoints on libuv's thread pool, one at a time, from snapshots that share the run's vectors: the loop goes
 * on meanwhile. All calls from the loop's thread. */
#ifndef DECANT_SERVER_PARAMETER_CHECKPOINT_WRITER_H
#define DECANT_SERVER_PARAMETER_CHECKPOINT_WRITER_H

#include <stdbool.h>
#include <uv.h>
#include "common/error.h"
#include "proto/run_config.h"
#include "server/shell/server_metrics.h"
#include "server/parameter/weights_file.h"

struct checkpoint_writer {
    uv_loop_t *loop;
    const struct run_config *config;
    int lock;                   /* of the run's directory; without it nothing is written: ERR_STATE */
    void (*on_idle)(void *arg); /* after each write that leaves nothing to do */
    void *arg;
    uv_work_t work;
    struct encoder_state current, next; /* being written; waiting */
    bool busy, waiting;
    struct error error;              /* of the newest write */
    struct checkpoint_record record; /* of all of them */
};

void checkpoint_writer_init(struct checkpoint_writer *w, uv_loop_t *loop, const struct run_config *config,
                            void (*on_idle)(void *arg), void *arg);
/* Takes the state over. While one is being written one more waits; a newer one replaces it, which is logged. */
void checkpoint_writer_submit(struct checkpoint_writer *w, struct encoder_state *s);
bool checkpoint_writer_idle(const struct checkpoint_writer *w);
/* The newest write's result: 0 or ERR_*, with the text in w->error. */
int checkpoint_writer_result(const struct checkpoint_writer *w);

#endif
