/* The run's directory: names of steps, which step `latest` and a resume choose, start counters. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "common/log.h"
#include "common/safetensors.h"
#include "proto/run_dir.h"

static struct run_config config;

static int make_directory(void **state)
{
    (void)state;
    struct error e;
    if (run_config_load(&config, NULL, NULL, NULL, 0, &e) != 0)
        return -1;
    strcpy(config.run.out, "/tmp/test_run_dir.XXXXXX");
    return mkdtemp(config.run.out) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    char command[1100];
    snprintf(command, sizeof command, "rm -rf %s", config.run.out);
    return system(command);
}

static void write_file(uint64_t step, const char *file)
{
    struct error e = {0};
    char path[RUN_PATH_MAX];
    float one = 1;
    struct tensor_view t = {.name = "w", .dtype = DTYPE_F32, .rank = 1, .shape = {1}, .data = &one, .size = 4};
    assert_int_equal(run_dir_prepare_step(path, &config, step, file, &e), 0);
    assert_int_equal(safetensors_write(path, &t, 1, NULL, 0, &e), 0);
    assert_int_equal(run_dir_step_written(&config, step, &e), 0);
}

static void damage(uint64_t step, const char *file)
{
    struct error e = {0};
    char path[RUN_PATH_MAX];
    assert_int_equal(run_dir_step_path(path, &config, step, file, &e), 0);
    assert_int_equal(truncate(path, 20), 0);
}

/* A load that takes every step but those in `refused`, with the code given. */
struct loader {
    uint64_t refused, loaded;
    int code;
    uint64_t step_max; /* 0: none */
};

static int load(void *arg, const char *path, uint64_t step, struct error *e)
{
    struct loader *l = arg;
    if (step == l->refused)
        return error_set(e, l->code, "%s: refused", path);
    l->loaded = step;
    return 0;
}

static int resume(struct loader *l)
{
    struct error e = {0};
    return run_dir_resume(&config, ENCODER_FILE, l->step_max ? l->step_max : UINT64_MAX, load, l, &e);
}

static bool latest_is(const char *text)
{
    char path[RUN_PATH_MAX];
    struct buf *b = NULL;
    struct error e = {0};
    snprintf(path, sizeof path, "%s/checkpoints/latest", config.run.out);
    bool same = file_read(path, 64, &b, &e) == 0 && b->size == strlen(text) && memcmp(b->data, text, b->size) == 0;
    buf_unref(&b);
    return same;
}

static void test_names_of_steps(void **state)
{
    (void)state;
    uint64_t step = 0;
    assert_true(run_dir_parse_step("step-000120", &step));
    assert_int_equal(step, 120);
    assert_true(run_dir_parse_step("step-1234567", &step));
    assert_int_equal(step, 1234567);
    assert_false(run_dir_parse_step("step-000120.inprogress", &step));
    assert_false(run_dir_parse_step("step-", &step));
    assert_false(run_dir_parse_step("latest", &step));
    static const char *const otherwise[] = {"step-120",
                                            "step-0000120",
                                            "step- 000120",
                                            "step-+00120",
                                            "step--18446744073709551496",
                                            "step-18446744073709551616"};
    for (size_t i = 0; i < sizeof otherwise / sizeof otherwise[0]; i++)
        assert_false(run_dir_parse_step(otherwise[i], &step));
}

static void test_empty_directory_has_nothing(void **state)
{
    (void)state;
    struct loader l = {.refused = UINT64_MAX};
    assert_int_equal(resume(&l), ERR_NOT_FOUND);
}

static void remove_checkpoints(void)
{
    char command[1100];
    snprintf(command, sizeof command, "rm -rf %s/checkpoints", config.run.out);
    assert_int_equal(system(command), 0);
}

/* A run that had a checkpoint does not begin again because it is gone, unless somebody says so. */
static void test_lost_checkpoints_are_not_none(void **state)
{
    (void)state;
    struct loader l = {.refused = UINT64_MAX};
    struct error e;
    bool any;
    assert_int_equal(run_dir_check_resume(&config, &any, &e), 0);
    assert_false(any);
    write_file(4, ENCODER_FILE);
    assert_int_equal(run_dir_check_resume(&config, &any, &e), 0);
    assert_false(any); /* half a step: the run may still begin */
    remove_checkpoints();
    assert_int_equal(resume(&l), ERR_NOT_FOUND);
    write_file(4, ENCODER_FILE);
    write_file(4, MIXTURE_FILE);
    assert_int_equal(run_dir_check_resume(&config, &any, &e), 0);
    assert_true(any);
    remove_checkpoints();
    assert_int_equal(run_dir_check_resume(&config, &any, &e), ERR_STATE);
    assert_non_null(strstr(e.text, "checkpointed"));
    assert_int_equal(resume(&l), ERR_STATE);
    l.step_max = 3; /* going back, with the other server: all that is asked for is what lies below */
    assert_int_equal(resume(&l), ERR_NOT_FOUND);
    l.step_max = 0;
    assert_int_equal(run_dir_start_over(&config, &e), 0);
    assert_int_equal(run_dir_start_over(&config, &e), 0);
    assert_int_equal(resume(&l), ERR_NOT_FOUND);
}

static void test_a_file_in_place_of_the_directory(void **state)
{
    (void)state;
    struct loader l = {.refused = UINT64_MAX};
    struct error e;
    bool any;
    char path[RUN_PATH_MAX];
    struct file_part part = {"x", 1};
    snprintf(path, sizeof path, "%s/checkpoints", config.run.out);
    assert_int_equal(file_write_atomic(path, &part, 1, &e), 0);
    assert_int_equal(run_dir_check_resume(&config, &any, &e), ERR_IO);
    assert_non_null(strstr(e.text, "Not a directory"));
    assert_int_equal(resume(&l), ERR_IO);
}

/* Root may read everything: another user looks. */
static void test_forbidden_is_not_absent(void **state)
{
    (void)state;
    struct loader l = {.refused = UINT64_MAX};
    char path[RUN_PATH_MAX];
    if (geteuid() != 0)
        skip();
    write_file(4, ENCODER_FILE);
    write_file(4, MIXTURE_FILE);
    assert_int_equal(run_dir_step_path(path, &config, 4, MIXTURE_FILE, NULL), 0);
    assert_int_equal(chmod(config.run.out, 0755), 0);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(setresuid(65534, 65534, 0), 0);
    int file = resume(&l);
    assert_int_equal(setresuid(0, 0, 0), 0);
    assert_int_equal(file, ERR_FORMAT); /* as one that is damaged: never as none */
    snprintf(path, sizeof path, "%s/checkpoints", config.run.out);
    assert_int_equal(chmod(path, 0700), 0);
    assert_int_equal(setresuid(65534, 65534, 0), 0);
    int directory = resume(&l);
    assert_int_equal(setresuid(0, 0, 0), 0);
    assert_int_equal(directory, ERR_IO);
}

static void test_newest(void **state)
{
    (void)state;
    uint64_t step;
    assert_false(run_dir_newest(&config, &step));
    write_file(4, ENCODER_FILE);
    write_file(4, MIXTURE_FILE);
    write_file(9, MIXTURE_FILE);
    assert_true(run_dir_newest(&config, &step));
    assert_int_equal(step, 4);
}

static void test_latest_waits_for_both_files(void **state)
{
    (void)state;
    write_file(5, ENCODER_FILE);
    assert_false(latest_is("step-000005\n"));
    write_file(5, MIXTURE_FILE);
    assert_true(latest_is("step-000005\n"));
    write_file(10, MIXTURE_FILE);
    assert_true(latest_is("step-000005\n"));
}

static void test_joint_run_needs_the_encoder_only(void **state)
{
    (void)state;
    struct loader l = {.refused = UINT64_MAX};
    config.loss.prototypes = PROTOTYPES_JOINT;
    write_file(7, ENCODER_FILE);
    assert_true(latest_is("step-000007\n"));
    assert_int_equal(resume(&l), 0);
    assert_int_equal(l.loaded, 7);
}

static void test_damage_and_half_steps_are_passed_over(void **state)
{
    (void)state;
    struct loader l = {.refused = UINT64_MAX};
    for (uint64_t step = 5; step <= 15; step += 5) {
        write_file(step, ENCODER_FILE);
        write_file(step, MIXTURE_FILE);
    }
    write_file(20, ENCODER_FILE);
    assert_int_equal(resume(&l), 0);
    assert_int_equal(l.loaded, 15);
    damage(15, MIXTURE_FILE);
    assert_int_equal(resume(&l), 0);
    assert_int_equal(l.loaded, 10);
    damage(10, ENCODER_FILE);
    assert_int_equal(resume(&l), 0);
    assert_int_equal(l.loaded, 5);
    damage(5, ENCODER_FILE);
    assert_int_equal(resume(&l), ERR_FORMAT); /* nothing sound is left: not the same as nothing there */
}

static void write_step(uint64_t step)
{
    write_file(step, ENCODER_FILE);
    write_file(step, MIXTURE_FILE);
}

static void test_a_limit_leaves_newer_steps_alone(void **state)
{
    (void)state;
    struct loader l = {.refused = UINT64_MAX, .step_max = 9};
    write_step(5);
    write_step(10);
    assert_int_equal(resume(&l), 0);
    assert_int_equal(l.loaded, 5);
    l.step_max = 10;
    assert_int_equal(resume(&l), 0);
    assert_int_equal(l.loaded, 10);
    l.step_max = 4;
    assert_int_equal(resume(&l), ERR_NOT_FOUND);
}

static bool exists(uint64_t step, const char *file)
{
    char path[RUN_PATH_MAX];
    assert_int_equal(run_dir_step_path(path, &config, step, file, NULL), 0);
    return access(path, F_OK) == 0;
}

static void test_old_steps_go(void **state)
{
    (void)state;
    config.run.checkpoint_keep = 2;
    config.run.checkpoint_keep_every = 20;
    for (uint64_t step = 10; step <= 50; step += 10)
        write_step(step);
    assert_true(exists(20, MIXTURE_FILE) && exists(20, ENCODER_FILE)); /* for good */
    assert_true(exists(40, MIXTURE_FILE) && exists(40, ENCODER_FILE));
    assert_true(exists(50, MIXTURE_FILE) && exists(50, ENCODER_FILE));
    assert_false(exists(10, MIXTURE_FILE) || exists(30, MIXTURE_FILE));
    write_file(60, ENCODER_FILE); /* not complete: counts for nothing */
    assert_true(exists(40, ENCODER_FILE) && exists(50, ENCODER_FILE));
    write_file(60, MIXTURE_FILE);
    assert_true(exists(20, NULL) && exists(40, NULL) && exists(50, NULL));
    assert_false(exists(10, NULL) || exists(30, NULL));
    config.run.checkpoint_keep_every = 0;
    write_step(70);
    assert_false(exists(20, NULL) || exists(40, NULL) || exists(50, NULL)); /* the directories too */
    assert_true(exists(60, MIXTURE_FILE) && exists(70, MIXTURE_FILE));
}

static void point(const char *pointer, const char *text)
{
    char path[RUN_PATH_MAX];
    snprintf(path, sizeof path, "%s/checkpoints/%s", config.run.out, pointer);
    assert_int_equal(file_write_atomic(path, &(struct file_part){text, strlen(text)}, 1, NULL), 0);
}

/* Whatever their age, for as long as they are named; a pointer that is none names nothing. */
static void test_named_steps_stay(void **state)
{
    (void)state;
    config.run.checkpoint_keep = 1;
    write_step(10);
    point("best", "step-000010 knn=81.5 images=100\n");
    point("candidate", "step-000020\n");
    for (uint64_t step = 20; step <= 40; step += 10)
        write_step(step);
    assert_true(exists(10, MIXTURE_FILE) && exists(10, ENCODER_FILE) && exists(20, MIXTURE_FILE));
    assert_false(exists(30, NULL));
    point("best", "../step-000010\n");
    point("candidate", "step-000040\n");
    write_step(50);
    assert_false(exists(10, NULL) || exists(20, NULL));
    assert_true(exists(40, ENCODER_FILE) && exists(50, ENCODER_FILE));
}

/* What was never completed takes space, and nobody will come back to it once a later step is complete. */
static void test_halves_of_older_steps_go(void **state)
{
    struct error e = {0};
    char path[RUN_PATH_MAX];
    (void)state;
    config.run.checkpoint_keep = 0; /* it keeps whole ones */
    write_step(10);
    write_file(20, MIXTURE_FILE);
    assert_int_equal(run_dir_prepare_step(path, &config, 30, ENCODER_FILE ".inprogress", &e), 0);
    assert_int_equal(file_write_atomic(path, &(struct file_part){"x", 1}, 1, NULL), 0);
    write_file(40, ENCODER_FILE);
    assert_true(exists(20, MIXTURE_FILE) && exists(30, NULL)); /* they may be completed yet */
    write_file(40, MIXTURE_FILE);
    assert_false(exists(20, NULL) || exists(30, NULL));
    assert_true(exists(10, ENCODER_FILE) && exists(40, ENCODER_FILE));
}

static void test_a_step_that_is_abandoned_goes(void **state)
{
    (void)state;
    write_step(10);
    write_file(20, MIXTURE_FILE);
    run_dir_step_abandoned(&config, 10);
    run_dir_step_abandoned(&config, 20);
    run_dir_step_abandoned(&config, 30);
    assert_true(exists(10, ENCODER_FILE) && exists(10, MIXTURE_FILE)); /* whole: it may be resumed from */
    assert_false(exists(20, NULL));
}

static void test_zero_keeps_all(void **state)
{
    (void)state;
    config.run.checkpoint_keep = 0;
    for (uint64_t step = 1; step <= 9; step++)
        write_step(step);
    assert_true(exists(1, MIXTURE_FILE) && exists(1, ENCODER_FILE));
}

/* A lock ends with its descriptor; two servers of a run do not exclude each other. */
static void test_one_process_at_a_time(void **state)
{
    (void)state;
    struct error e = {0};
    int first = -1, second = -1, other = -1;
    assert_int_equal(run_dir_lock(&config, server_name(SERVER_PARAMETER), &first, &e), 0);
    assert_int_equal(run_dir_lock(&config, server_name(SERVER_PARAMETER), &second, &e), ERR_STATE);
    char pid[32];
    snprintf(pid, sizeof pid, ":%ld;", (long)getpid());
    assert_non_null(strstr(e.text, pid));
    assert_int_equal(second, -1);
    assert_int_equal(run_dir_lock(&config, server_name(SERVER_PROTOTYPE), &other, &e), 0);
    close(first);
    assert_int_equal(run_dir_lock(&config, server_name(SERVER_PARAMETER), &second, &e), 0);
    close(second);
    close(other);
}

/* A directory that is deleted and made again belongs to whoever locked it then. */
static void test_a_lock_goes_with_its_directory(void **state)
{
    (void)state;
    struct error e = {0};
    char path[RUN_PATH_MAX];
    int first = -1, second = -1;
    snprintf(path, sizeof path, "%s/lock-parameter", config.run.out);
    assert_int_equal(run_dir_lock(&config, server_name(SERVER_PARAMETER), &first, &e), 0);
    assert_int_equal(run_dir_lock_held(&config, server_name(SERVER_PARAMETER), first, &e), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(config.run.out), 0);
    assert_int_equal(run_dir_lock_held(&config, server_name(SERVER_PARAMETER), first, &e), ERR_STATE);
    assert_non_null(strstr(e.text, path));
    assert_int_equal(run_dir_lock(&config, server_name(SERVER_PARAMETER), &second, &e), 0);
    assert_int_equal(run_dir_lock_held(&config, server_name(SERVER_PARAMETER), first, &e), ERR_STATE);
    assert_int_equal(run_dir_lock_held(&config, server_name(SERVER_PARAMETER), second, &e), 0);
    close(first);
    close(second);
}

static void test_resuming_repairs_latest(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "step-000099\n", "nonsense that is longer than any name of a step\n"};
    struct error e = {0};
    char path[RUN_PATH_MAX];
    write_step(5);
    snprintf(path, sizeof path, "%s/checkpoints/latest", config.run.out);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct loader l = {.loaded = 0};
        struct buf *text = NULL;
        assert_int_equal(file_write_atomic(path, &(struct file_part){texts[i], strlen(texts[i])}, 1, &e), 0);
        assert_int_equal(resume(&l), 0);
        assert_int_equal(file_read(path, 64, &text, &e), 0);
        assert_int_equal(text->size, strlen("step-000005\n"));
        assert_memory_equal(text->data, "step-000005\n", text->size);
        buf_unref(&text);
    }
}

/* A step of another configuration ends the search; damage found by the loader does not. */
static void test_what_the_loader_says_counts(void **state)
{
    (void)state;
    write_file(5, ENCODER_FILE);
    write_file(5, MIXTURE_FILE);
    write_file(10, ENCODER_FILE);
    write_file(10, MIXTURE_FILE);
    struct loader damaged = {.refused = 10, .code = ERR_FORMAT}, foreign = {.refused = 10, .code = ERR_CONFIG};
    assert_int_equal(resume(&damaged), 0);
    assert_int_equal(damaged.loaded, 5);
    assert_int_equal(resume(&foreign), ERR_CONFIG);
}

static void test_generation_rises_with_each_start(void **state)
{
    (void)state;
    struct error e = {0};
    uint64_t generation = 0;
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(run_dir_raise_generation(&config, SERVER_PARAMETER, &generation, &e), 0);
        assert_int_equal(generation, i);
    }
    assert_int_equal(run_dir_raise_generation(&config, SERVER_PROTOTYPE, &generation, &e), 0);
    assert_int_equal(generation, 1);
}

static void put_generation(const char *text)
{
    struct error e = {0};
    char path[RUN_PATH_MAX];
    snprintf(path, sizeof path, "%s/generation-parameter", config.run.out);
    assert_int_equal(file_write_atomic(path, &(struct file_part){text, strlen(text)}, 1, &e), 0);
}

static void test_damaged_generation_is_refused(void **state)
{
    (void)state;
    static const char *const damaged[] = {"7x\n", "", "-18446744073709551609\n", " 7\n", "+7\n", "4294967295\n"};
    for (size_t i = 0; i < sizeof damaged / sizeof damaged[0]; i++) {
        struct error e = {0};
        uint64_t generation = 0;
        put_generation(damaged[i]);
        assert_int_equal(run_dir_raise_generation(&config, SERVER_PARAMETER, &generation, &e), ERR_FORMAT);
        assert_true(run_dir_generation(&config, SERVER_PARAMETER) == UINT64_MAX);
    }
}

static void test_generation_ends_below_what_cannot_be_read(void **state)
{
    (void)state;
    struct error e = {0};
    uint64_t generation = 0;
    put_generation("4294967293\n");
    assert_int_equal(run_dir_raise_generation(&config, SERVER_PARAMETER, &generation, &e), 0);
    assert_true(run_dir_generation(&config, SERVER_PARAMETER) == generation);
    assert_int_equal(run_dir_raise_generation(&config, SERVER_PARAMETER, &generation, &e), ERR_FORMAT);
    assert_true(run_dir_generation(&config, SERVER_PARAMETER) == 4294967294);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

int main(void)
{
    log_init("test", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        CASE(test_names_of_steps),
        CASE(test_empty_directory_has_nothing),
        CASE(test_lost_checkpoints_are_not_none),
        CASE(test_a_file_in_place_of_the_directory),
        CASE(test_forbidden_is_not_absent),
        CASE(test_newest),
        CASE(test_latest_waits_for_both_files),
        CASE(test_joint_run_needs_the_encoder_only),
        CASE(test_damage_and_half_steps_are_passed_over),
        CASE(test_a_limit_leaves_newer_steps_alone),
        CASE(test_old_steps_go),
        CASE(test_named_steps_stay),
        CASE(test_halves_of_older_steps_go),
        CASE(test_a_step_that_is_abandoned_goes),
        CASE(test_zero_keeps_all),
        CASE(test_one_process_at_a_time),
        CASE(test_resuming_repairs_latest),
        CASE(test_a_lock_goes_with_its_directory),
        CASE(test_what_the_loader_says_counts),
        CASE(test_generation_rises_with_each_start),
        CASE(test_damaged_generation_is_refused),
        CASE(test_generation_ends_below_what_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
