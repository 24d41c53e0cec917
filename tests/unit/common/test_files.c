/* Whole reads and atomic writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/files.h"
#include "tests/unit/common/scratch.h"

static void in_scratch(void **state, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", (const char *)*state, name);
}

static void assert_content(const char *path, const char *wanted)
{
    struct buf *b;
    assert_int_equal(file_read(path, 1000, &b, NULL), 0);
    assert_int_equal(b->size, strlen(wanted));
    assert_memory_equal(b->data, wanted, b->size);
    buf_unref(&b);
}

static void test_reading_nothing(void **state)
{
    char path[512];
    struct error e;
    struct buf *b;
    in_scratch(state, "absent", path);
    assert_int_equal(file_read(path, 10, &b, &e), ERR_NOT_FOUND);
    assert_null(b);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(file_read(*state, 10, &b, &e), ERR_IO); /* a directory */
    scratch_write(state, "empty", "", 0, path);
    assert_int_equal(file_read(path, 0, &b, &e), 0);
    assert_int_equal(b->size, 0);
    buf_unref(&b);
}

static void test_what_is_there_what_is_not_and_what_may_not_be_seen(void **state)
{
    char path[512], below[600];
    struct error e;
    scratch_write(state, "there", "x", 1, path);
    assert_int_equal(file_probe(path, &e), 0);
    assert_int_equal(file_probe(*state, &e), 0); /* a directory is something, too */
    snprintf(below, sizeof below, "%s/x", path);
    assert_int_equal(file_probe(below, &e), ERR_NOT_FOUND);
    in_scratch(state, "absent", below);
    assert_int_equal(file_probe(below, &e), ERR_NOT_FOUND);
    if (geteuid() != 0)
        return; /* the rest needs two users */
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(setresuid(65534, 65534, 0), 0);
    int rc = file_probe(path, &e);
    assert_int_equal(setresuid(0, 0, 0), 0);
    assert_int_equal(rc, ERR_IO);
    assert_non_null(strstr(e.text, "Permission denied"));
}

enum { HANG_S = 20 }; /* a call that waits for a FIFO's other side ends the whole program by SIGALRM */

static void expect_refused(const char *path, const char *kind)
{
    static const int ways[] = {O_RDONLY, O_WRONLY | O_CREAT, O_WRONLY | O_CREAT | O_APPEND, O_RDWR | O_CREAT};
    struct buf *b;
    FILE *stream;
    struct error e;
    int fd;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        assert_int_equal(file_open(path, ways[i], &fd, &e), ERR_IO);
        assert_int_equal(fd, -1);
        assert_non_null(strstr(e.text, path));
        assert_non_null(strstr(e.text, kind));
        assert_non_null(strstr(e.text, "not a regular file"));
    }
    assert_int_equal(file_open_stream(path, &stream, &e), ERR_IO);
    assert_null(stream);
    assert_int_equal(file_read(path, 10, &b, &e), ERR_IO);
    assert_int_equal(file_lock(path, &fd, &e), ERR_IO);
}

static void test_only_regular_files_are_opened_and_nothing_is_waited_for(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char path[512], inprogress[600];
    struct error e;
    struct file_part part = {"x", 1};
    alarm(HANG_S);
    in_scratch(state, "fifo", path);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refused(path, "FIFO");
    int reader =
        open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* now that somebody reads it, open() to write succeeds */
    assert_true(reader >= 0);
    expect_refused(path, "FIFO");
    close(reader);
    in_scratch(state, "target", path);
    snprintf(inprogress, sizeof inprogress, "%s.inprogress", path);
    assert_int_equal(mkfifo(inprogress, 0600), 0);
    assert_int_equal(file_write_atomic(path, &part, 1, &e), ERR_IO);
    in_scratch(state, "socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(snprintf(address.sun_path, sizeof address.sun_path, "%s", path) < (int)sizeof address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    expect_refused(path, "socket");
    close(fd);
    expect_refused(*state, "directory");
    expect_refused("/dev/full", "device");
    alarm(0);
}

static void test_limit_is_inclusive(void **state)
{
    char path[512];
    struct error e;
    struct buf *b;
    scratch_write(state, "f", "12345", 5, path);
    assert_int_equal(file_read(path, 4, &b, &e), ERR_RANGE);
    assert_null(b);
    assert_content(path, "12345");
    assert_int_equal(file_read(path, 5, &b, &e), 0);
    buf_unref(&b);
}

static void test_writes_parts_in_order_and_replaces(void **state)
{
    char path[512], temporary[600];
    const struct file_part parts[] = {{"ab", 2}, {NULL, 0}, {"cde", 3}};
    in_scratch(state, "f", path);
    assert_int_equal(file_write_atomic(path, parts, 3, NULL), 0);
    assert_content(path, "abcde");
    assert_int_equal(file_write_atomic(path, parts, 1, NULL), 0);
    assert_content(path, "ab");
    assert_int_equal(file_write_atomic(path, NULL, 0, NULL), 0);
    assert_content(path, "");
    snprintf(temporary, sizeof temporary, "%s.inprogress", path);
    assert_int_equal(access(temporary, F_OK), -1);
}

static void test_a_crashed_write_leaves_nothing_behind(void **state)
{
    char path[512], stray[512];
    const struct file_part part = {"new", 3};
    scratch_write(state, "f.inprogress", "much longer half of an old write", 32, stray);
    in_scratch(state, "f", path);
    assert_int_equal(file_write_atomic(path, &part, 1, NULL), 0);
    assert_content(path, "new");
    assert_int_equal(access(stray, F_OK), -1);
}

static void test_failures_keep_the_old_file(void **state)
{
    char path[512], longest[5000];
    struct error e;
    const struct file_part part = {"x", 1};
    in_scratch(state, "no/such/dir", path);
    assert_int_equal(file_write_atomic(path, &part, 1, &e), ERR_NOT_FOUND);
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(file_write_atomic(longest, &part, 1, &e), ERR_RANGE);
    in_scratch(state, "dir", path);
    assert_int_equal(mkdir(path, 0755), 0); /* cannot be renamed over */
    assert_int_equal(file_write_atomic(path, &part, 1, &e), ERR_IO);
    in_scratch(state, "dir.inprogress", path);
    assert_int_equal(access(path, F_OK), -1);
}

static void write_often(const char *path, char letter)
{
    char bytes[100];
    memset(bytes, letter, sizeof bytes);
    const struct file_part part = {bytes, sizeof bytes};
    for (int i = 0; i < 50; i++)
        if (file_write_atomic(path, &part, 1, NULL) != 0)
            _exit(1);
    _exit(0);
}

static void test_two_processes_may_write_the_same_file(void **state)
{
    char path[512];
    in_scratch(state, "latest", path);
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        if (children[i] == 0)
            write_often(path, (char)('a' + i));
    }
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    struct buf *b;
    assert_int_equal(file_read(path, 1000, &b, NULL), 0);
    assert_int_equal(b->size, 100);
    for (size_t i = 1; i < b->size; i++)
        assert_int_equal(b->data[i], b->data[0]);
    buf_unref(&b);
}

static void test_makes_directories(void **state)
{
    char path[512];
    struct error e;
    struct stat st;
    in_scratch(state, "a//b/c/", path);
    assert_int_equal(dir_make(path, &e), 0);
    assert_int_equal(dir_make(path, &e), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(dir_make("/", &e), 0);
    assert_int_equal(dir_make("", &e), ERR_RANGE);
    scratch_write(state, "file", "", 0, path);
    assert_int_equal(dir_make(path, &e), ERR_IO);
    in_scratch(state, "file/under", path);
    assert_int_not_equal(dir_make(path, &e), 0);
}

static void test_formats_paths(void **state)
{
    (void)state;
    char path[8];
    assert_int_equal(path_format(path, sizeof path, "%s/%d", "abc", 123), 0);
    assert_string_equal(path, "abc/123");
    assert_int_equal(path_format(path, sizeof path, "%s/%d", "abc", 1234), ERR_RANGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        scratch_test(test_reading_nothing),
        scratch_test(test_what_is_there_what_is_not_and_what_may_not_be_seen),
        scratch_test(test_only_regular_files_are_opened_and_nothing_is_waited_for),
        scratch_test(test_limit_is_inclusive),
        scratch_test(test_writes_parts_in_order_and_replaces),
        scratch_test(test_a_crashed_write_leaves_nothing_behind),
        scratch_test(test_failures_keep_the_old_file),
        scratch_test(test_two_processes_may_write_the_same_file),
        scratch_test(test_makes_directories),
        cmocka_unit_test(test_formats_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
