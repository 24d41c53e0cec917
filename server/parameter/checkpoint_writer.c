/* The pool thread touches `current` and `error` only, and only while busy. */
#include "server/parameter/checkpoint_writer.h"

#include <inttypes.h>
#include "common/log.h"
#include "proto/run_dir.h"
#include "server/parameter/encoder_checkpoint.h"

void checkpoint_writer_init(struct checkpoint_writer *w, uv_loop_t *loop, const struct run_config *config,
                            void (*on_idle)(void *arg), void *arg)
{
    *w = (struct checkpoint_writer){.loop = loop, .config = config, .on_idle = on_idle, .arg = arg};
    w->work.data = w;
}

static void write_current(uv_work_t *work)
{
    struct checkpoint_writer *w = work->data;
    w->error = (struct error){0};
    w->error.code = run_dir_lock_held(w->config, server_name(SERVER_PARAMETER), w->lock, &w->error);
    if (w->error.code == 0)
        w->error.code = encoder_checkpoint_write(w->config, &w->current, &w->error);
}

static void start(struct checkpoint_writer *w);

static void after_write(uv_work_t *work, int status)
{
    struct checkpoint_writer *w = work->data;
    (void)status; /* never cancelled */
    if (w->error.code == 0)
        log_info("event=checkpoint step=%" PRIu64, w->current.step);
    else
        log_error("event=checkpoint_failed step=%" PRIu64 " error=%s cause=\"%s\"", w->current.step,
                  error_name(w->error.code), w->error.text);
    checkpoint_record_note(&w->record, w->current.step, &w->error, uv_hrtime() / 1000000);
    encoder_state_fini(&w->current);
    w->busy = false;
    if (w->waiting) {
        w->waiting = false;
        w->current = w->next;
        start(w);
    } else {
        w->on_idle(w->arg);
    }
}

static void start(struct checkpoint_writer *w)
{
    w->busy = true;
    int rc = uv_queue_work(w->loop, &w->work, write_current, after_write);
    ASSERT(rc == 0); /* fails for a missing callback only */
}

void checkpoint_writer_submit(struct checkpoint_writer *w, struct encoder_state *s)
{
    if (!w->busy) {
        w->current = *s;
        start(w);
        return;
    }
    if (w->waiting) {
        log_warn("event=checkpoint_skipped step=%" PRIu64 " cause=\"the disk is slower than run.checkpoint_every\"",
                 w->next.step);
        encoder_state_fini(&w->next);
    }
    w->next = *s;
    w->waiting = true;
}

bool checkpoint_writer_idle(const struct checkpoint_writer *w)
{
    return !w->busy;
}

int checkpoint_writer_result(const struct checkpoint_writer *w)
{
    return w->error.code;
}
