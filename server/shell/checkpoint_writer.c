/* The pool's thread touches `current` and `result` only, and only while busy. */
#include "server/shell/checkpoint_writer.h"

#include <inttypes.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include "common/log.h"
#include "proto/run_dir.h"

static void on_retry(uv_timer_t *timer);

void checkpoint_writer_init(struct checkpoint_writer *w, uv_loop_t *loop, const struct run_config *config,
                            const struct checkpoint_kind *kind,
                            void (*on_written)(void *arg, uint64_t step, const struct error *result), void *arg)
{
    *w = (struct checkpoint_writer){
        .loop = loop, .config = config, .kind = kind, .lock = -1, .on_written = on_written, .arg = arg};
    w->work.data = w;
    uv_timer_init(loop, &w->retry);
    w->retry.data = w;
}

static void drop(struct checkpoint_writer *w, struct checkpoint_job *job)
{
    if (job->snapshot)
        w->kind->drop(job->snapshot);
    *job = (struct checkpoint_job){0};
}

static void write_current(uv_work_t *work)
{
    struct checkpoint_writer *w = work->data;
    w->result = (struct error){0};
    w->result.code = run_dir_lock_held(w->config, server_name(w->kind->server), w->lock, &w->result);
    if (w->result.code == 0)
        w->result.code = w->kind->write(w->config, w->current.snapshot, &w->result);
}

/* UINT64_MAX when the file system does not tell. */
static uint64_t free_bytes(const struct checkpoint_writer *w)
{
    struct statvfs disk;
    return statvfs(w->config->run.out, &disk) == 0 ? (uint64_t)disk.f_bavail * disk.f_frsize : UINT64_MAX;
}

/* Before it is too late: room for what is written now and once more. Said once, until there is room again. */
static void watch_space(struct checkpoint_writer *w, const void *snapshot)
{
    uint64_t needed = w->kind->bytes(snapshot), left = free_bytes(w);
    bool low = left < CHECKPOINT_SPACE_FACTOR * needed;
    if (low && !w->space_low)
        log_warn(
            "event=space_low path=\"%s\" free_bytes=%" PRIu64 " checkpoint_bytes=%" PRIu64
            " hint=\"free space, or lower run.checkpoint_keep: a checkpoint that cannot be written waits in memory\"",
            w->config->run.out, left, needed);
    w->space_low = low;
}

/* What a person can do about it, by what is found to be missing. */
static const char *advice(const struct checkpoint_writer *w, uint64_t needed, uint64_t left)
{
    struct rlimit size;
    if (w->given_up || w->result.code == ERR_STATE)
        return "it is lost";
    if (getrlimit(RLIMIT_FSIZE, &size) == 0 && size.rlim_cur != RLIM_INFINITY && size.rlim_cur < needed)
        return "it is kept in memory and tried again; the limit of a file's size (ulimit -f) is too small: prlimit "
               "--fsize=unlimited --pid PID raises it for this process";
    if (left < needed)
        return "it is kept in memory and tried again; free space";
    return "it is kept in memory and tried again; mend the directory";
}

static void log_failure(const struct checkpoint_writer *w)
{
    uint64_t needed = w->kind->bytes(w->current.snapshot), left = free_bytes(w);
    log_error("event=checkpoint_failed step=%" PRIu64 " error=%s cause=\"%s\" needed_bytes=%" PRIu64
              " free_bytes=%" PRIu64 " retry_s=%" PRIu64 " hint=\"%s\"",
              w->current.step, error_name(w->result.code), w->result.text, needed, left,
              w->given_up ? 0 : w->pause_ms / 1000, advice(w, needed, left));
}

static void after_write(uv_work_t *work, int status);

static void start(struct checkpoint_writer *w)
{
    w->busy = true;
    int rc = uv_queue_work(w->loop, &w->work, write_current, after_write);
    ASSERT(rc == 0); /* fails for a missing callback only */
}

/* The next one if it waits. */
static void go_on(struct checkpoint_writer *w)
{
    if (w->result.code != 0 && w->result.code != ERR_STATE && w->next.snapshot)
        run_dir_step_abandoned(w->config, w->current.step);
    drop(w, &w->current);
    w->pause_ms = 0;
    w->current = w->next;
    w->next = (struct checkpoint_job){0};
    if (w->current.snapshot)
        start(w);
}

static void prepare_retry(struct checkpoint_writer *w)
{
    w->pause_ms = w->pause_ms == 0 ? CHECKPOINT_PAUSE_MS : 2 * w->pause_ms;
    if (w->pause_ms > CHECKPOINT_PAUSE_MAX_MS)
        w->pause_ms = CHECKPOINT_PAUSE_MAX_MS;
    uv_timer_start(&w->retry, on_retry, w->pause_ms, 0);
}

static void after_write(uv_work_t *work, int status)
{
    struct checkpoint_writer *w = work->data;
    uint64_t step = w->current.step;
    (void)status; /* never cancelled */
    w->busy = false;
    checkpoint_record_note(&w->record, step, &w->result, uv_hrtime() / 1000000);
    bool again = w->result.code != 0 && w->result.code != ERR_STATE && !w->given_up && !w->next.snapshot;
    if (again)
        prepare_retry(w);
    if (w->result.code == 0)
        log_info("event=checkpoint step=%" PRIu64, step);
    else
        log_failure(w);
    if (!again)
        go_on(w);
    w->on_written(w->arg, step, &w->result);
}

static void on_retry(uv_timer_t *timer)
{
    struct checkpoint_writer *w = timer->data;
    if (w->next.snapshot) /* newer, and of more use */
        go_on(w);
    else
        start(w);
}

/* The one that waits makes room for a newer one. */
static void skip_next(const struct checkpoint_writer *w)
{
    log_warn("event=checkpoint_skipped step=%" PRIu64 " cause=\"%s\"", w->next.step,
             w->record.failing ? "the checkpoint before it cannot be written, see checkpoint_failed"
                               : "the disk is slower than run.checkpoint_every");
    run_dir_step_abandoned(w->config, w->next.step);
}

void checkpoint_writer_submit(struct checkpoint_writer *w, uint64_t step, void *snapshot)
{
    watch_space(w, snapshot);
    if (w->next.snapshot)
        skip_next(w);
    drop(w, &w->next);
    w->next = (struct checkpoint_job){snapshot, step};
    if (!w->current.snapshot)
        go_on(w);
}

bool checkpoint_writer_busy(const struct checkpoint_writer *w)
{
    return w->current.snapshot != NULL;
}

void checkpoint_writer_give_up(struct checkpoint_writer *w)
{
    w->given_up = true;
    if (!w->busy && w->current.snapshot) { /* between two tries */
        uv_timer_stop(&w->retry);
        drop(w, &w->next);
        go_on(w);
    }
}

const struct error *checkpoint_writer_result(const struct checkpoint_writer *w)
{
    return &w->result;
}

void checkpoint_writer_close(struct checkpoint_writer *w)
{
    uv_close((uv_handle_t *)&w->retry, NULL);
}
