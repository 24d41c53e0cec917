/* Snapshots on their way to the disk: one at a time, none given up because a write failed. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/files.h"
#include "proto/run_dir.h"
#include "server/shell/checkpoint_writer.h"
#include "tests/unit/common/scratch.h"

enum { LOG_MAX = 16 };

struct snapshot {
    uint64_t step;
    struct disk *disk;
};

/* What the writing thread sees; the loop looks at it between writes only. */
struct disk {
    int failures; /* so many writes fail from now on */
    int rc;       /* with that */
    uint64_t written[LOG_MAX];
    unsigned count, dropped;
};

struct rig {
    struct disk disk;
    struct run_config config;
    uv_loop_t loop;
    struct checkpoint_writer writer;
    int results[LOG_MAX];
    unsigned result_count;
    uint64_t then_submit; /* the step of a snapshot that comes when the first write has ended; 0: none */
    bool then_give_up, then_submit_two;
};

static int write_snapshot(const struct run_config *c, const void *snapshot, struct error *e)
{
    const struct snapshot *s = snapshot;
    (void)c;
    if (s->disk->failures > 0) {
        s->disk->failures--;
        return error_set(e, s->disk->rc, "no space left");
    }
    s->disk->written[s->disk->count++] = s->step;
    return 0;
}

static uint64_t bytes(const void *snapshot)
{
    (void)snapshot;
    return 1000;
}

static void drop(void *snapshot)
{
    ((struct snapshot *)snapshot)->disk->dropped++;
    free(snapshot);
}

static const struct checkpoint_kind kind = {
    .server = SERVER_PROTOTYPE, .write = write_snapshot, .bytes = bytes, .drop = drop};

static void submit(struct rig *r, uint64_t step)
{
    struct snapshot *s = malloc(sizeof *s);
    assert_non_null(s);
    *s = (struct snapshot){step, &r->disk};
    checkpoint_writer_submit(&r->writer, step, s);
}

static void on_written(void *arg, uint64_t step, const struct error *result)
{
    struct rig *r = arg;
    (void)step;
    r->results[r->result_count++] = result->code;
    if (r->then_submit != 0)
        submit(r, r->then_submit);
    r->then_submit = 0;
    if (r->then_submit_two) {
        r->then_submit_two = false;
        submit(r, 20); /* both come while the one that failed waits for its next try */
        submit(r, 30);
    }
    if (r->then_give_up)
        checkpoint_writer_give_up(&r->writer);
    if (!checkpoint_writer_busy(&r->writer))
        checkpoint_writer_close(&r->writer);
}

static void open_rig(void **state, struct rig *r)
{
    char out[300];
    const char *set[] = {"run.name=w", out};
    *r = (struct rig){.disk = {.rc = ERR_IO}};
    snprintf(out, sizeof out, "run.out=%s", (const char *)*state);
    assert_int_equal(run_config_load(&r->config, NULL, NULL, set, 2, NULL), 0);
    assert_int_equal(uv_loop_init(&r->loop), 0);
    checkpoint_writer_init(&r->writer, &r->loop, &r->config, &kind, on_written, r);
    assert_int_equal(run_dir_lock(&r->config, server_name(SERVER_PROTOTYPE), &r->writer.lock, NULL), 0);
}

/* Until nothing is to be written any more. */
static void run(struct rig *r)
{
    uv_run(&r->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&r->loop), 0);
    close(r->writer.lock);
}

static void test_a_snapshot_is_written_and_dropped(void **state)
{
    struct rig r;
    open_rig(state, &r);
    assert_false(checkpoint_writer_busy(&r.writer));
    submit(&r, 10);
    assert_true(checkpoint_writer_busy(&r.writer));
    run(&r);
    assert_int_equal(r.disk.count, 1);
    assert_int_equal(r.disk.written[0], 10);
    assert_int_equal(r.disk.dropped, 1);
    assert_int_equal(checkpoint_writer_result(&r.writer)->code, 0);
    assert_int_equal(r.writer.record.step, 10);
}

static void test_one_waits_and_the_newest_takes_its_place(void **state)
{
    struct rig r;
    open_rig(state, &r);
    submit(&r, 10);
    submit(&r, 20);
    submit(&r, 30);
    run(&r);
    assert_int_equal(r.disk.count, 2);
    assert_int_equal(r.disk.written[0], 10);
    assert_int_equal(r.disk.written[1], 30);
    assert_int_equal(r.disk.dropped, 3);
}

static void test_a_failed_write_is_tried_again(void **state)
{
    struct rig r;
    open_rig(state, &r);
    r.disk.failures = 1;
    submit(&r, 10);
    run(&r);
    assert_int_equal(r.result_count, 2);
    assert_int_equal(r.results[0], ERR_IO);
    assert_int_equal(r.results[1], 0);
    assert_int_equal(r.disk.written[0], 10);
    assert_int_equal(r.writer.record.failures, 1);
    assert_false(r.writer.record.failing);
}

static void test_a_newer_snapshot_is_of_more_use_than_one_that_failed(void **state)
{
    struct rig r;
    open_rig(state, &r);
    r.disk.failures = 1;
    r.then_submit = 20;
    submit(&r, 10);
    run(&r);
    assert_int_equal(r.disk.count, 1);
    assert_int_equal(r.disk.written[0], 20);
    assert_int_equal(r.disk.dropped, 2);
}

/* What is logged until run() has returned, from stderr. */
struct heard {
    FILE *file;
    int before;
};

static void eavesdrop(struct heard *h)
{
    h->file = tmpfile();
    assert_non_null(h->file);
    fflush(stderr);
    h->before = dup(STDERR_FILENO);
    assert_int_equal(dup2(fileno(h->file), STDERR_FILENO), STDERR_FILENO);
}

static void hear(struct heard *h, char *text, size_t size)
{
    fflush(stderr);
    dup2(h->before, STDERR_FILENO);
    close(h->before);
    rewind(h->file);
    text[fread(text, 1, size - 1, h->file)] = '\0';
    fclose(h->file);
}

/* A disk that is full is not slow, and the other server's half of what is left out goes, since it takes space. */
static void test_what_is_left_out_has_its_true_cause(void **state)
{
    struct rig r;
    struct heard h;
    char text[4096], half[RUN_PATH_MAX];
    struct error e = {0};
    open_rig(state, &r);
    assert_int_equal(run_dir_prepare_step(half, &r.config, 20, ENCODER_FILE, &e), 0);
    assert_int_equal(file_write_atomic(half, &(struct file_part){"x", 1}, 1, &e), 0);
    eavesdrop(&h);
    r.disk.failures = 1;
    r.then_submit_two = true;
    submit(&r, 10);
    run(&r);
    hear(&h, text, sizeof text);
    assert_int_equal(r.disk.written[0], 30);
    assert_non_null(
        strstr(text, "event=checkpoint_skipped step=20 cause=\"the checkpoint before it cannot be written"));
    assert_null(strstr(text, "slower"));
    assert_int_not_equal(access(half, F_OK), 0);
}

static void test_a_limit_of_size_is_told_from_a_full_disk(void **state)
{
    struct rig r;
    struct heard h;
    char text[4096];
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    open_rig(state, &r);
    signal(SIGXFSZ, SIG_IGN); /* as the servers do */
    eavesdrop(&h);
    small = before;
    small.rlim_cur = 999; /* bytes() says 1000 */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    r.disk.failures = 1;
    submit(&r, 10);
    uv_run(&r.loop, UV_RUN_ONCE);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    run(&r);
    hear(&h, text, sizeof text);
    assert_non_null(strstr(text, "event=checkpoint_failed step=10"));
    assert_non_null(strstr(text, "ulimit -f"));
}

static void test_who_gives_up_loses_it_and_is_told(void **state)
{
    struct rig r;
    open_rig(state, &r);
    r.disk.failures = 100;
    r.then_give_up = true;
    submit(&r, 10);
    run(&r);
    assert_int_equal(r.result_count, 1);
    assert_int_equal(r.disk.count, 0);
    assert_int_equal(r.disk.dropped, 1);
    assert_int_equal(checkpoint_writer_result(&r.writer)->code, ERR_IO);
}

/* The directory is another's by now: nothing may be written there, now or later. */
static void test_without_the_lock_nothing_is_written(void **state)
{
    struct rig r;
    char path[512];
    open_rig(state, &r);
    snprintf(path, sizeof path, "%s/lock-prototype", (const char *)*state);
    assert_int_equal(unlink(path), 0);
    submit(&r, 10);
    run(&r);
    assert_int_equal(r.result_count, 1);
    assert_int_equal(r.results[0], ERR_STATE);
    assert_int_equal(r.disk.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_a_snapshot_is_written_and_dropped),
        scratch_test(test_one_waits_and_the_newest_takes_its_place),
        scratch_test(test_a_failed_write_is_tried_again),
        scratch_test(test_a_newer_snapshot_is_of_more_use_than_one_that_failed),
        scratch_test(test_what_is_left_out_has_its_true_cause),
        scratch_test(test_a_limit_of_size_is_told_from_a_full_disk),
        scratch_test(test_who_gives_up_loses_it_and_is_told),
        scratch_test(test_without_the_lock_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
