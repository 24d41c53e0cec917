/* Children: exit codes, signals, logs and the warnings taken from them. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>
#include "cli/child.h"

struct fixture {
    char directory[64];
    uv_loop_t loop;
    struct child child;
    int exits;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->directory, sizeof f->directory, "/tmp/decant-test-XXXXXX");
    *state = f;
    return mkdtemp(f->directory) && uv_loop_init(&f->loop) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", f->directory);
    int rc = uv_loop_close(&f->loop) | system(command);
    free(f);
    return rc;
}

static void count_exit(struct child *c, void *arg)
{
    struct fixture *f = arg;
    assert_ptr_equal(c, &f->child);
    f->exits++;
}

static int run(struct fixture *f, const char *program, const char *script)
{
    char *argv[] = {(char *)program, "-c", (char *)script, NULL}, *environment[] = {"PATH=/usr/bin:/bin", NULL};
    struct child_options o = {.name = "c",
                              .log_directory = f->directory,
                              .argv = argv,
                              .environ = environment,
                              .on_exit = count_exit,
                              .arg = f};
    struct error e;
    return child_spawn(&f->child, &f->loop, &o, &e);
}

static void test_missing_program(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(run(f, "/nonexistent/program", ""), ERR_IO);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_false(f->child.running || f->child.closing);
    child_signal(&f->child, SIGTERM); /* harmless */
}

static void test_exit_code_and_restart(void **state)
{
    struct fixture *f = *state;
    char how[64];
    assert_int_equal(run(f, "/bin/sh", "exit 3"), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    child_describe_exit(&f->child, how, sizeof how);
    assert_string_equal(how, "exit code 3");
    assert_int_equal(run(f, "/bin/sh", "exit 0"), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(f->exits, 2);
    assert_int_equal(f->child.exit_status, 0);
}

static void test_signal(void **state)
{
    struct fixture *f = *state;
    char how[64];
    assert_int_equal(run(f, "/bin/sh", "exec sleep 60"), 0);
    child_signal(&f->child, SIGKILL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    child_describe_exit(&f->child, how, sizeof how);
    assert_string_equal(how, "signal 9 (Killed)");
}

static void test_own_session(void **state)
{
    struct fixture *f = *state;
    /* the shell leads its own session: Ctrl-C in ours does not reach it */
    assert_int_equal(run(f, "/bin/sh", "read -r _ _ _ _ _ session _ </proc/$$/stat; test $session = $$"), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(f->child.exit_status, 0);
}

static void test_warnings(void **state)
{
    struct fixture *f = *state;
    char line[256];
    assert_false(child_next_warning(&f->child, line, sizeof line)); /* never started */
    assert_int_equal(
        run(f, "/bin/sh", "echo '1 info a'; echo '2 warn b' >&2; echo '3 info c'; echo '4 error d'; printf '5 warn e'"),
        0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(child_next_warning(&f->child, line, sizeof line));
    assert_string_equal(line, "2 warn b");
    assert_true(child_next_warning(&f->child, line, sizeof line));
    assert_string_equal(line, "4 error d");
    assert_false(child_next_warning(&f->child, line, sizeof line)); /* the last line is not complete */
    assert_int_equal(run(f, "/bin/sh", "echo; echo '6 warn f'"), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(child_next_warning(&f->child, line, sizeof line)); /* what came before the restart is not shown again */
    assert_string_equal(line, "6 warn f");
    assert_int_equal(run(f, "/bin/sh", "echo '7 info worker event=loading_progress images=1 of=2'"), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(child_next_warning(&f->child, line, sizeof line));
    assert_string_equal(line, "7 info worker event=loading_progress images=1 of=2");
    assert_int_equal(run(f, "/bin/sh", "echo 'decant-worker: a limit is too low'"), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(child_next_warning(&f->child, line, sizeof line)); /* from before there is a log */
    assert_string_equal(line, "decant-worker: a limit is too low");
}

static void test_long_warning_comes_in_pieces(void **state)
{
    struct fixture *f = *state;
    char line[16];
    assert_int_equal(run(f, "/bin/sh", "echo 'x warn 34567890123456 error 9'"), 0);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_true(child_next_warning(&f->child, line, sizeof line));
    assert_string_equal(line, "x warn 34567890");
    assert_true(child_next_warning(&f->child, line, sizeof line));
    assert_string_equal(line, "123456 error 9");
    assert_false(child_next_warning(&f->child, line, sizeof line));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_missing_program), CASE(test_exit_code_and_restart),        CASE(test_signal), CASE(test_own_session),
        CASE(test_warnings),        CASE(test_long_warning_comes_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
