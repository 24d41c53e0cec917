/* Lines are there whole or not at all, whatever the disk does. The disk is full where RLIMIT_FSIZE ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "server/shell/metrics_file.h"
#include "tests/unit/common/scratch.h"

static void path_of(void **state, char path[512])
{
    snprintf(path, 512, "%s/metrics-parameter.jsonl", (const char *)*state);
}

static void assert_text(void **state, const char *wanted)
{
    char path[512];
    struct buf *b;
    path_of(state, path);
    assert_int_equal(file_read(path, 1000, &b, NULL), 0);
    assert_int_equal(b->size, strlen(wanted));
    assert_memory_equal(b->data, wanted, b->size);
    buf_unref(&b);
}

static void open_file(void **state, struct metrics_file *f, bool fresh)
{
    struct error e = {0};
    if (metrics_file_open(f, *state, SERVER_PARAMETER, fresh, &e) != 0)
        fail_msg("%s", e.text);
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_lines_are_appended(void **state)
{
    struct metrics_file f = METRICS_FILE_CLOSED;
    metrics_file_append(&f, "dropped");
    metrics_file_close(&f);
    open_file(state, &f, true);
    metrics_file_append(&f, "{\"step\":1}");
    metrics_file_append(&f, NULL);
    metrics_file_append(&f, "{\"step\":2}");
    assert_int_equal(f.lost, 1);
    metrics_file_close(&f);
    assert_text(state, "{\"step\":1}\n{\"step\":2}\n");
    open_file(state, &f, false);
    metrics_file_append(&f, "{\"step\":3}");
    metrics_file_close(&f);
    assert_text(state, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
    open_file(state, &f, true);
    metrics_file_close(&f);
    assert_text(state, "");
}

static void test_a_full_disk_costs_the_lines_of_that_time(void **state)
{
    struct metrics_file f;
    open_file(state, &f, true);
    metrics_file_append(&f, "{\"step\":1}");
    limit_files(15);
    metrics_file_append(&f, "{\"step\":2}"); /* four bytes of it fit */
    metrics_file_append(&f, "{\"step\":3}");
    assert_int_equal(f.lost, 2);
    assert_text(state, "{\"step\":1}\n");
    limit_files(11);
    metrics_file_append(&f, "{\"step\":4}"); /* not one byte */
    assert_text(state, "{\"step\":1}\n");
    limit_files(RLIM_INFINITY);
    metrics_file_append(&f, "{\"step\":5}");
    assert_int_equal(f.lost, 3);
    metrics_file_close(&f);
    assert_text(state, "{\"step\":1}\n{\"step\":5}\n");
}

static void test_a_torn_line_is_cut_off(void **state)
{
    static const char *const before[] = {"", "{\"st", "{\"step\":1}\n", "{\"step\":1}\n{\"step\":2}\n{\"s"};
    static const char *const after[] = {"x\n", "x\n", "{\"step\":1}\nx\n", "{\"step\":1}\n{\"step\":2}\nx\n"};
    char path[512], large[10000];
    struct metrics_file f;
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
        scratch_write(state, "metrics-parameter.jsonl", before[i], strlen(before[i]), path);
        open_file(state, &f, false);
        metrics_file_append(&f, "x");
        metrics_file_close(&f);
        assert_text(state, after[i]);
    }
    memset(large, 'y', sizeof large); /* over several blocks */
    large[10] = '\n';
    scratch_write(state, "metrics-parameter.jsonl", large, sizeof large, path);
    open_file(state, &f, false);
    metrics_file_append(&f, "x");
    metrics_file_close(&f);
    assert_text(state, "yyyyyyyyyy\nx\n");
}

/* Whoever empties it meanwhile gets no hole of zeros. */
static void test_a_file_that_somebody_cut_goes_on(void **state)
{
    char path[512];
    struct metrics_file f;
    open_file(state, &f, true);
    metrics_file_append(&f, "{\"step\":1}");
    path_of(state, path);
    assert_int_equal(truncate(path, 0), 0);
    metrics_file_append(&f, "a");
    metrics_file_append(&f, "b");
    metrics_file_close(&f);
    assert_text(state, "a\nb\n");
}

static void test_what_cannot_be_opened(void **state)
{
    char path[512];
    struct metrics_file f;
    struct error e = {0};
    path_of(state, path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(metrics_file_open(&f, *state, SERVER_PARAMETER, false, &e), ERR_IO);
    assert_non_null(strstr(e.text, "FIFO"));
    assert_int_equal(metrics_file_open(&f, "/nowhere", SERVER_PARAMETER, true, &e), ERR_NOT_FOUND);
    metrics_file_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_lines_are_appended),     scratch_test(test_a_full_disk_costs_the_lines_of_that_time),
        scratch_test(test_a_torn_line_is_cut_off), scratch_test(test_a_file_that_somebody_cut_goes_on),
        scratch_test(test_what_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
