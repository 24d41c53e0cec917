/* Processes that are bound to another one, that go on without their terminal, and that are known by what they have
 * open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "cli/child_guard.h"
#include "cli/command.h"
#include "cli/detach.h"
#include "cli/launch_log.h"
#include "cli/process_files.h"
#include "cli/run_holder.h"
#include "common/files.h"

enum { PATIENCE_MS = 20000 };

static int make_directory(void **state)
{
    char *root = strdup("/tmp/decant-test-XXXXXX");
    *state = root;
    return root && mkdtemp(root) ? 0 : -1;
}

static int remove_directory(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", (const char *)*state);
    int rc = system(command);
    free(*state);
    return rc;
}

/* True when the other end of the pipe is closed, by the end of all that had it, before patience is over. */
static bool closes(int fd)
{
    struct pollfd p = {.fd = fd};
    return poll(&p, 1, PATIENCE_MS) == 1 && (p.revents & POLLHUP) != 0;
}

/* Starts a guard that becomes `sleep 1000`, with the parent that it is told. */
static void guard(pid_t parent)
{
    char text[16], word[] = CHILD_GUARD, program[] = "sleep", seconds[] = "1000";
    char *argv[] = {word, text, program, seconds, NULL};
    snprintf(text, sizeof text, "%d", (int)parent);
    _exit(child_guard(4, argv));
}

static void test_a_guarded_child_dies_with_its_parent(void **state)
{
    int alive[2];
    (void)state;
    assert_int_equal(pipe(alive), 0);
    pid_t parent = fork();
    if (parent == 0) { /* the launcher: it has a child and is killed outright */
        pid_t self = getpid();
        if (fork() == 0)
            guard(self);
        usleep(300000); /* the guard has become its program, or will see that we are gone */
        raise(SIGKILL);
    }
    close(alive[1]);
    assert_true(closes(alive[0]));
    waitpid(parent, NULL, 0);
    close(alive[0]);
}

static void test_a_guard_whose_parent_is_gone_starts_nothing(void **state)
{
    int status;
    (void)state;
    pid_t child = fork();
    if (child == 0)
        guard(1); /* which is not who started it */
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == CHILD_GUARD_NOT_STARTED);
}

static void test_a_process_is_known_by_what_it_has_open(void **state)
{
    char path[128], other[128];
    struct file_part part = {"x", 1};
    snprintf(path, sizeof path, "%s/a", (const char *)*state);
    snprintf(other, sizeof other, "%s/b", (const char *)*state);
    assert_int_equal(file_write_atomic(path, &part, 1, NULL) | file_write_atomic(other, &part, 1, NULL), 0);
    int fd = open(path, O_RDONLY);
    assert_true(process_has_open(getpid(), path));
    assert_false(process_has_open(getpid(), other));
    assert_false(process_has_open(1 << 22, path));
    close(fd);
    assert_false(process_has_open(getpid(), path));
    snprintf(other, sizeof other, "%s/none", (const char *)*state);
    assert_false(process_has_open(getpid(), other));
}

static void test_the_holder_of_a_directory(void **state)
{
    const char *out = *state;
    char path[128], copy[160], command[512];
    struct run_holder h;
    struct error e;
    int fd;
    assert_int_equal(run_holder_find(out, &h, &e), ERR_NOT_FOUND);
    snprintf(path, sizeof path, "%s/lock-launcher", out);
    assert_int_equal(file_lock(path, &fd, &e), 0);
    assert_int_equal(run_holder_find(out, &h, &e), 0);
    assert_true(h.held && h.pid == getpid());
    snprintf(copy, sizeof copy, "%s/copy", out);
    snprintf(command, sizeof command, "mkdir '%s' && cp '%s' '%s'", copy, path, copy);
    assert_int_equal(system(command), 0);
    assert_int_equal(run_holder_find(copy, &h, &e), 0); /* the same number, another file */
    assert_true(!h.held && h.pid == 0);
    close(fd);
    assert_int_equal(run_holder_find(out, &h, &e), 0);
    assert_true(!h.held && h.pid == 0);
}

/* Somebody holds the lock, but what the file says is no process that has it. */
static void test_a_holder_that_cannot_be_told(void **state)
{
    const char *out = *state;
    char path[128];
    struct run_holder h;
    struct error e;
    int fd;
    snprintf(path, sizeof path, "%s/lock-launcher", out);
    assert_int_equal(file_lock(path, &fd, &e), 0);
    assert_int_equal(pwrite(fd, "elsewhere:1\n\x1b[2J", 16, 0), 16);
    assert_int_equal(ftruncate(fd, 12), 0);
    assert_int_equal(run_holder_find(out, &h, &e), 0);
    assert_true(h.held && h.pid == 0);
    assert_string_equal(h.name, "elsewhere:1");
    close(fd);
}

static void test_what_is_said_goes_to_the_file_as_well(void **state)
{
    struct launch_log l;
    char path[128];
    int ends[2];
    struct buf *b;
    assert_int_equal(pipe(ends), 0);
    FILE *out = fdopen(ends[1], "w");
    launch_log_open(&l, out, *state);
    assert_false(launch_log_unread(&l));
    launch_log_say(&l, "one");
    signal(SIGPIPE, SIG_IGN);
    close(ends[0]);
    assert_true(launch_log_unread(&l)); /* before anything is written */
    launch_log_say(&l, "two");
    launch_log_close(&l);
    fclose(out);
    signal(SIGPIPE, SIG_DFL);
    snprintf(path, sizeof path, "%s/launcher.log", (const char *)*state);
    assert_int_equal(file_read(path, 100, &b, NULL), 0);
    assert_int_equal(b->size, 8);
    assert_memory_equal(b->data, "one\ntwo\n", 8);
    buf_unref(&b);
    out = fopen(path, "a"); /* in the background it is stderr itself: once is enough, and a file has no reader */
    launch_log_open(&l, out, *state);
    assert_null(l.file);
    assert_false(launch_log_unread(&l));
    fclose(out);
}

static void test_the_background(void **state)
{
    char log[128];
    struct error e;
    struct detach d;
    struct buf *b;
    int alive[2];
    snprintf(log, sizeof log, "%s/log", (const char *)*state);
    assert_int_equal(pipe(alive), 0);
    assert_int_equal(detach_fork(&d, &e), 0);
    if (d.child == 0) {
        bool ok = getsid(0) == getpid() && detach_ready(&d, log, &e) == 0;
        usleep(100000);
        dprintf(STDOUT_FILENO, ok ? "in a session of its own\n" : "failed\n");
        _exit(7);
    }
    close(alive[1]);
    assert_int_equal(detach_wait(&d), COMMAND_DONE); /* while the other one goes on */
    assert_true(closes(alive[0]));
    waitpid(d.child, NULL, 0);
    close(alive[0]);
    assert_int_equal(file_read(log, 100, &b, NULL), 0);
    assert_int_equal(b->size, 24);
    assert_memory_equal(b->data, "in a session of its own\n", 24);
    buf_unref(&b);
}

static void test_a_background_that_does_not_get_going(void **state)
{
    struct error e;
    struct detach d;
    (void)state;
    assert_int_equal(detach_fork(&d, &e), 0);
    if (d.child == 0)
        _exit(COMMAND_USAGE);
    assert_int_equal(detach_wait(&d), COMMAND_USAGE);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        CASE(test_a_guarded_child_dies_with_its_parent),
        CASE(test_a_guard_whose_parent_is_gone_starts_nothing),
        CASE(test_a_process_is_known_by_what_it_has_open),
        CASE(test_the_holder_of_a_directory),
        CASE(test_a_holder_that_cannot_be_told),
        CASE(test_what_is_said_goes_to_the_file_as_well),
        CASE(test_the_background),
        CASE(test_a_background_that_does_not_get_going),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
