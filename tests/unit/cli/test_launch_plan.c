/* Where a run goes, what it refuses, and what its children are told. Directories lie in a fresh scratch directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "cli/launch_arguments.h"
#include "cli/launch_plan.h"
#include "cli/pid_file.h"
#include "common/files.h"

struct scratch {
    char root[64], out[128];
    struct launch_plan plan;
    struct error e;
};

static char *no_environment[] = {NULL};

static int make_scratch(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);
    snprintf(s->root, sizeof s->root, "/tmp/decant-test-XXXXXX");
    if (!mkdtemp(s->root))
        return -1;
    snprintf(s->out, sizeof s->out, "%s/run", s->root);
    *state = s;
    return 0;
}

static int remove_scratch(void **state)
{
    struct scratch *s = *state;
    char command[160];
    launch_plan_fini(&s->plan);
    snprintf(command, sizeof command, "rm -rf '%s'", s->root);
    int rc = system(command);
    free(s);
    return rc;
}

static int make(struct scratch *s, struct launch_options *o)
{
    launch_plan_fini(&s->plan);
    o->out = s->out;
    o->workers = o->workers ? o->workers : 1;
    return launch_plan_make(o, no_environment, &s->plan, &s->e);
}

static void put(const struct scratch *s, const char *directory, const char *name)
{
    char path[256];
    struct file_part part = {"x", 1};
    snprintf(path, sizeof path, "%s/%s", s->out, directory);
    assert_int_equal(dir_make(path, NULL), 0);
    snprintf(path, sizeof path, "%s/%s/%s", s->out, directory, name);
    assert_int_equal(file_write_atomic(path, &part, 1, NULL), 0);
}

static void test_fresh_directory(void **state)
{
    struct scratch *s = *state;
    struct launch_options o = {.run = "fresh"};
    struct stat st;
    assert_int_equal(make(s, &o), 0);
    assert_string_equal(s->plan.config.run.name, "fresh");
    assert_string_equal(s->plan.config.run.out, s->out);
    assert_false(s->plan.joint);
    assert_int_equal(stat(s->plan.config_path, &st), 0);
    assert_int_equal(stat(s->plan.sockets, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_ptr_equal(strstr(s->plan.config.net.parameter, "ipc:///"), s->plan.config.net.parameter);
    char sockets[64];
    snprintf(sockets, sizeof sockets, "%s", s->plan.sockets);
    launch_plan_fini(&s->plan);
    assert_int_not_equal(stat(sockets, &st), 0);
}

static void test_given_endpoints_are_kept(void **state)
{
    struct scratch *s = *state;
    struct launch_options o = {.sets = {"net.parameter=tcp://127.0.0.1:7000"}, .set_count = 1};
    assert_int_equal(make(s, &o), 0);
    assert_string_equal(s->plan.sockets, "");
    assert_string_equal(s->plan.config.net.parameter, "tcp://127.0.0.1:7000");
}

static void test_refuses_other_work(void **state)
{
    struct scratch *s = *state;
    struct launch_options o = {0};
    put(s, "checkpoints", "latest");
    assert_int_equal(make(s, &o), ERR_STATE);
    assert_non_null(strstr(s->e.text, "--resume"));
    o.resume = true;
    assert_int_equal(make(s, &o), 0);
}

static void test_resume_keeps_the_configuration(void **state)
{
    struct scratch *s = *state;
    struct launch_options first = {.sets = {"run.seed=7", "optimiser.lr=0.5"}, .set_count = 2};
    struct launch_options again = {.resume = true};
    struct launch_options other = {.resume = true, .sets = {"optimiser.lr=0.25"}, .set_count = 1};
    struct launch_options harmless = {.resume = true, .workers = 3, .sets = {"run.log_every=3"}, .set_count = 1};
    assert_int_equal(make(s, &first), 0);
    put(s, "checkpoints", "latest");
    assert_int_equal(make(s, &again), 0);
    assert_int_equal(s->plan.config.run.seed, 7);
    assert_int_equal(make(s, &other), ERR_STATE);
    assert_non_null(strstr(s->e.text, "optimiser.lr"));
    assert_int_equal(make(s, &harmless), 0);
    assert_int_equal(make(s, &again), 0); /* the refused one left config.ini alone */
    assert_true(s->plan.config.optimiser.lr == 0.5);
}

static void test_refuses_beside_living_processes(void **state)
{
    struct scratch *s = *state;
    struct launch_options o = {0};
    struct pid_entry entries[] = {{"parameter", getpid()}, {"worker-1", 1}};
    assert_int_equal(dir_make(s->out, NULL), 0);
    assert_int_equal(pid_file_write(s->out, entries, 2, &s->e), 0);
    /* neither this test nor init is one of ours */
    assert_int_equal(make(s, &o), 0);
    pid_file_remove(s->out);
    char path[256];
    snprintf(path, sizeof path, "%s/pids", s->out);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void test_redis_choices(void **state)
{
    struct scratch *s = *state;
    struct launch_options automatic = {0}, off = {.redis = REDIS_OFF};
    struct launch_options given = {.redis = REDIS_GIVEN, .redis_address = "there:6380"};
    struct launch_options wrong = {.redis = REDIS_GIVEN, .redis_address = "there:x"};
    struct launch_options joint = {.sets = {"loss.prototypes=joint"}, .set_count = 1};
    assert_int_equal(make(s, &automatic), 0);
    assert_true(s->plan.redis_private);
    assert_int_equal(make(s, &off), 0);
    assert_false(s->plan.redis_private || s->plan.config.redis.enabled);
    assert_int_equal(make(s, &given), 0);
    assert_true(!s->plan.redis_private && s->plan.config.redis.enabled && s->plan.config.redis.port == 6380);
    assert_int_equal(make(s, &wrong), ERR_CONFIG);
    assert_int_equal(make(s, &joint), 0);
    assert_true(s->plan.joint && !s->plan.redis_private); /* nobody to mirror */
}

static bool told(const struct launch_arguments *a, const char *argument)
{
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->argv[i], argument) == 0)
            return true;
    return false;
}

static void test_arguments_of_children(void **state)
{
    struct scratch *s = *state;
    struct launch_options o = {.redis = REDIS_OFF};
    struct launch_arguments *a = calloc(1, sizeof *a);
    char endpoint[512];
    assert_int_equal(make(s, &o), 0);
    launch_arguments_decant(a, &s->plan, "parameter", true);
    snprintf(endpoint, sizeof endpoint, "net.parameter=%s", s->plan.config.net.parameter);
    assert_non_null(strstr(a->argv[0], "/decant-parameter"));
    assert_true(told(a, s->plan.config_path) && told(a, endpoint) && told(a, "--resume"));
    assert_true(told(a, "redis.enabled=false"));
    assert_null(a->argv[a->count]);
    launch_arguments_decant(a, &s->plan, "worker", false);
    assert_false(told(a, "--resume"));
    free(a);
}

static void test_environment_of_children(void **state)
{
    (void)state;
    char *environment[] = {"PATH=/bin", "DECANT_RUN_SEED=9", "DECANT_KERNELS=avx2", NULL};
    struct run_config c = {0};
    char **kept = launch_environment(environment, &c), **none = launch_environment(no_environment, &c);
    assert_string_equal(kept[0], "PATH=/bin");
    assert_string_equal(kept[1], "DECANT_KERNELS=avx2"); /* not of the configuration, and the children's concern */
    assert_null(kept[2]);
    assert_null(none[0]);
    free(kept);
    free(none);
    strcpy(c.redis.password, "s3cret");
    kept = launch_environment(environment, &c);
    assert_string_equal(kept[2], "DECANT_REDIS_PASSWORD=s3cret");
    assert_null(kept[3]);
    free(kept);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_scratch, remove_scratch)
    const struct CMUnitTest tests[] = {
        CASE(test_fresh_directory),
        CASE(test_given_endpoints_are_kept),
        CASE(test_refuses_other_work),
        CASE(test_resume_keeps_the_configuration),
        CASE(test_refuses_beside_living_processes),
        CASE(test_redis_choices),
        CASE(test_arguments_of_children),
        cmocka_unit_test(test_environment_of_children),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
