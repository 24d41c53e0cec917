/* The worker's sign of life: written, read, too old, missing, and never through somebody else's link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "worker/heartbeat.h"

struct place {
    char directory[64], path[96];
};

static int open_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    strcpy(p->directory, "/tmp/decant-heartbeat-XXXXXX");
    assert_non_null(mkdtemp(p->directory));
    snprintf(p->path, sizeof p->path, "%s/alive", p->directory);
    *state = p;
    return 0;
}

static int close_place(void **state)
{
    struct place *p = *state;
    unlink(p->path);
    rmdir(p->directory);
    free(p);
    return 0;
}

static void test_the_newest_line_is_read(void **state)
{
    struct place *p = *state;
    struct error e = {0};
    char line[HEARTBEAT_LINE_MAX];
    assert_int_equal(heartbeat_read(p->path, line, &e), ERR_NOT_FOUND);
    assert_int_equal(heartbeat_write(p->path, "step=100 and more\n", &e), 0);
    assert_int_equal(heartbeat_write(p->path, "step=7\n", &e), 0);
    assert_int_equal(heartbeat_read(p->path, line, &e), 0);
    assert_string_equal(line, "step=7");
    heartbeat_remove(p->path);
    assert_int_equal(heartbeat_read(p->path, line, &e), ERR_NOT_FOUND);
}

static void test_an_old_one_does_not_count(void **state)
{
    struct place *p = *state;
    struct error e = {0};
    char line[HEARTBEAT_LINE_MAX];
    assert_int_equal(heartbeat_write(p->path, "step=7\n", &e), 0);
    const struct timeval then = {.tv_sec = time(NULL) - HEARTBEAT_AGE_MAX_S - 5};
    assert_int_equal(utimes(p->path, (const struct timeval[]){then, then}), 0);
    assert_int_equal(heartbeat_read(p->path, line, &e), ERR_STATE);
    assert_non_null(strstr(e.text, "it said step=7"));
    assert_int_equal(heartbeat_write(p->path, "step=7\n", &e), 0); /* the same line is a new one */
    assert_int_equal(heartbeat_read(p->path, line, &e), 0);
}

static void test_what_is_no_file_is_left_alone(void **state)
{
    struct place *p = *state;
    struct error e = {0};
    char target[128];
    snprintf(target, sizeof target, "%s/precious", p->directory);
    assert_int_equal(symlink(target, p->path), 0);
    assert_int_equal(heartbeat_write(p->path, "x\n", &e), ERR_IO);
    assert_int_equal(access(target, F_OK), -1);
    unlink(p->path);
    assert_int_equal(mkfifo(p->path, 0600), 0);
    assert_int_equal(heartbeat_write(p->path, "x\n", &e), ERR_IO); /* and does not block */
}

static void test_the_path(void **state)
{
    (void)state;
    struct run_config c;
    struct error e;
    char path[HEARTBEAT_PATH_MAX], fallback[64];
    assert_int_equal(run_config_load(&c, NULL, NULL, NULL, 0, &e), 0);
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    assert_int_equal(heartbeat_path(&c, path), 0);
    assert_string_equal(path, "/run/user/7/decant-worker.alive");
    unsetenv("XDG_RUNTIME_DIR");
    snprintf(fallback, sizeof fallback, "/tmp/decant-worker-%ld.alive", (long)geteuid());
    assert_int_equal(heartbeat_path(&c, path), 0);
    assert_string_equal(path, fallback);
    strcpy(c.worker.heartbeat, "/var/lib/alive");
    assert_int_equal(heartbeat_path(&c, path), 0);
    assert_string_equal(path, "/var/lib/alive");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_place, close_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_the_newest_line_is_read),
        CASE(test_an_old_one_does_not_count),
        CASE(test_what_is_no_file_is_left_alone),
        cmocka_unit_test(test_the_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
