/* The queue of one and its thread-pool job. The job touches only the snapshot and the error. */
#include "server/prototype/checkpoint_writer.h"

#include <inttypes.h>
#include "common/log.h"
#include "proto/run_dir.h"
#include "server/prototype/mixture_checkpoint.h"

static void write_snapshot(uv_work_t *work)
{
    struct checkpoint_writer *w = work->data;
    w->rc = run_dir_lock_held(w->config, server_name(SERVER_PROTOTYPE), w->lock, &w->error);
    if (w->rc == 0)
        w->rc = mixture_checkpoint_write(w->config, w->writing, w->total_steps, &w->error);
}

static void start(struct checkpoint_writer *w, struct mixture *snapshot);

static void on_done(uv_work_t *work, int status)
{
    struct checkpoint_writer *w = work->data;
    (void)status; /* never cancelled */
    uint64_t step = w->writing->view->version;
    if (w->rc != 0)
        log_error("event=checkpoint_failed step=%" PRIu64 " text=\"%s\"", step, w->error.text);
    else
        log_info("event=checkpoint step=%" PRIu64, step);
    mixture_free(&w->writing);
    w->on_written(w->arg, step, w->rc);
    struct mixture *next = w->waiting;
    w->waiting = NULL;
    if (next != NULL)
        start(w, next);
}

static void start(struct checkpoint_writer *w, struct mixture *snapshot)
{
    w->writing = snapshot;
    w->work.data = w;
    int rc = uv_queue_work(w->loop, &w->work, write_snapshot, on_done);
    ASSERT(rc == 0); /* fails only for a missing callback */
}

int checkpoint_writer_offer(struct checkpoint_writer *w, const struct mixture *m, uint64_t total_steps)
{
    struct mixture *snapshot;
    int rc = mixture_clone(m, &snapshot);
    if (rc != 0) {
        mixture_free(&snapshot);
        return rc;
    }
    w->total_steps = total_steps;
    if (w->writing == NULL) {
        start(w, snapshot);
        return 0;
    }
    if (w->waiting != NULL)
        log_warn("event=checkpoint_left_out step=%" PRIu64 " reason=slow_disk", w->waiting->view->version);
    mixture_free(&w->waiting);
    w->waiting = snapshot;
    return 0;
}
