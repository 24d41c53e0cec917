/* Where a run goes, what it refuses, and what its children are told. Directories lie in a fresh scratch directory. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "cli/child_guard.h"
#include "cli/launch_arguments.h"
#include "cli/launch_plan.h"
#include "cli/pid_file.h"
#include "common/files.h"
#include "proto/run_dir.h"

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
    s->plan.lock = -1; /* nothing to let go of yet */
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
    assert_int_equal(make(s, &other), 0); /* nothing has been computed with the first one */
    assert_true(s->plan.begins);
    assert_int_equal(make(s, &first), 0);
    put(s, "checkpoints/step-000001", "encoder.safetensors");
    put(s, "checkpoints/step-000001", "mixture.safetensors");
    assert_int_equal(make(s, &again), 0);
    assert_false(s->plan.begins);
    assert_int_equal(s->plan.config.run.seed, 7);
    assert_int_equal(make(s, &other), ERR_STATE);
    assert_non_null(strstr(s->e.text, "optimiser.lr"));
    assert_int_equal(make(s, &harmless), 0);
    assert_int_equal(make(s, &again), 0); /* the refused one left config.ini alone */
    assert_true(s->plan.config.optimiser.lr == 0.5);
}

/* config.ini is for whoever goes on with the run, from wherever. */
static void test_written_paths_are_absolute(void **state)
{
    struct scratch *s = *state;
    struct launch_options o = {.sets = {"data.path=images", "worker.heartbeat=alive", "run.accept_data=true"},
                               .set_count = 3};
    struct run_config kept;
    char wanted[256], before[512];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(s->root), 0);
    assert_int_equal(symlink("/usr/share/datasets/fashion-mnist", "images"), 0);
    snprintf(s->out, sizeof s->out, "runs/here");
    int rc = make(s, &o);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(rc, 0);
    assert_true(s->plan.config.run.accept_data);
    snprintf(wanted, sizeof wanted, "%s/runs/here/config.ini", s->root);
    assert_int_equal(run_config_load(&kept, wanted, NULL, NULL, 0, &s->e), 0);
    assert_false(kept.run.accept_data); /* it was for this start only, whose servers are told */
    snprintf(wanted, sizeof wanted, "%s/runs/here", s->root);
    assert_string_equal(kept.run.out, wanted);
    snprintf(wanted, sizeof wanted, "%s/images", s->root);
    assert_string_equal(kept.data.path, wanted);
    snprintf(wanted, sizeof wanted, "%s/alive", s->root);
    assert_string_equal(kept.worker.heartbeat, wanted);
    struct launch_arguments *a = calloc(1, sizeof *a);
    launch_arguments_decant(a, &s->plan, "parameter", true);
    bool told = false;
    for (int i = 0; i < a->count; i++)
        told = told || strcmp(a->argv[i], "run.accept_data=true") == 0;
    assert_true(told);
    free(a);
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

/* Lost checkpoints are no reason to begin again without a word. */
static void test_resume_of_what_is_gone(void **state)
{
    struct scratch *s = *state;
    struct launch_options resume = {.resume = true}, from_start = {.resume = true, .from_start = true}, fresh = {0};
    char path[256], command[300];
    struct file_part part = {"x", 1};
    assert_int_equal(make(s, &resume), 0); /* a new run */
    assert_true(s->plan.begins);
    put(s, "checkpoints/step-000001", "encoder.safetensors");
    put(s, "checkpoints/step-000001", "mixture.safetensors");
    assert_int_equal(run_dir_step_written(&s->plan.config, 1, NULL), 0);
    assert_int_equal(make(s, &from_start), 0); /* nothing is lost: it goes on */
    assert_false(s->plan.begins);
    snprintf(command, sizeof command, "rm -r '%s/checkpoints'", s->out);
    assert_int_equal(system(command), 0);
    assert_int_equal(make(s, &resume), ERR_STATE);
    assert_non_null(strstr(s->e.text, "--from-start"));
    assert_int_equal(make(s, &fresh), ERR_STATE); /* nor is it lost without a word by whoever does not say resume */
    assert_non_null(strstr(s->e.text, "--from-start"));
    snprintf(path, sizeof path, "%s/checkpoints", s->out);
    assert_int_equal(dir_make(path, NULL), 0);
    assert_int_equal(make(s, &fresh), ERR_STATE);
    assert_int_equal(make(s, &from_start), 0);
    assert_true(s->plan.begins);
    assert_int_equal(make(s, &resume), 0); /* it has been accepted */
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(file_write_atomic(path, &part, 1, NULL), 0);
    assert_int_equal(make(s, &from_start), ERR_IO); /* no checkpoint could be written there */
    assert_non_null(strstr(s->e.text, "Not a directory"));
}

/* A process that has this directory's log open is at work here; in a copy of the directory the same numbers say
 * nothing.
 * */
static void test_processes_are_known_by_their_files(void **state)
{
    struct scratch *s = *state;
    char log[256], copy[256], command[600];
    put(s, "logs", "parameter.log");
    snprintf(log, sizeof log, "%s/logs/parameter.log", s->out);
    snprintf(copy, sizeof copy, "%s/copy", s->root);
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t other = fork();
    if (other == 0) {
        int held = open(log, O_RDONLY);
        write(ready[1], "", held >= 0 && held != ready[1]);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], command, 1), 1);
    struct pid_entry entries[] = {{"parameter", other}, {"worker-1", other}};
    assert_int_equal(pid_file_write(s->out, entries, 2, &s->e), 0);
    assert_int_equal(pid_file_check(s->out, 0, &s->e), ERR_STATE);
    snprintf(command, sizeof command, "kill %d (", (int)other); /* once, by the log that it has open */
    assert_non_null(strstr(s->e.text, command));
    snprintf(command, sizeof command, "cp -r '%s' '%s'", s->out, copy);
    assert_int_equal(system(command), 0);
    assert_int_equal(pid_file_check(copy, 0, &s->e), 0);
    kill(other, SIGKILL);
    assert_int_equal(pid_file_check(s->out, 5000, &s->e), 0); /* what ends meanwhile is waited for */
    waitpid(other, NULL, 0);
    close(ready[0]);
    close(ready[1]);
}

static void test_refuses_endpoints_that_are_taken(void **state)
{
    struct scratch *s = *state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char set[64];
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    snprintf(set, sizeof set, "net.prototype=tcp://127.0.0.1:%d", ntohs(address.sin_port));
    struct launch_options o = {.sets = {set}, .set_count = 1};
    assert_int_equal(make(s, &o), ERR_STATE);
    assert_non_null(strstr(s->e.text, "net.prototype"));
    assert_non_null(strstr(s->e.text, "Address already in use"));
    close(fd);
    assert_int_equal(make(s, &o), 0);
}

static bool told(const struct launch_arguments *a, const char *argument)
{
    for (int i = 0; i < a->count; i++)
        if (strcmp(a->argv[i], argument) == 0)
            return true;
    return false;
}

/* Free a moment ago. */
static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* A server listens on an interface, or on everything; workers and the launcher itself need an address of it. */
static void test_workers_get_what_they_can_connect_to(void **state)
{
    static const char *const hosts[] = {"lo", "*"};
    static const char *const keys[] = {"net.parameter", "net.parameter_publish", "net.prototype",
                                       "net.prototype_publish"};
    struct scratch *s = *state;
    struct launch_arguments *a = calloc(1, sizeof *a);
    for (size_t h = 0; h < 2; h++) {
        char sets[4][80], theirs[80];
        struct launch_options o = {.sets = {sets[0], sets[1], sets[2], sets[3], "net.insecure=true"}, .set_count = 5};
        unsigned first = 0;
        for (size_t i = 0; i < 4; i++) {
            unsigned port = free_port();
            first = i == 0 ? port : first;
            snprintf(sets[i], sizeof sets[i], "%s=tcp://%s:%u", keys[i], hosts[h], port);
        }
        assert_int_equal(make(s, &o), 0);
        snprintf(theirs, sizeof theirs, "net.parameter=tcp://127.0.0.1:%u", first);
        launch_arguments_decant(a, &s->plan, "parameter", false);
        assert_true(told(a, sets[0]) && !told(a, theirs));
        launch_arguments_decant(a, &s->plan, "worker", false);
        assert_true(told(a, theirs) && !told(a, sets[0]));
    }
    free(a);
}

/* With the key's name, and before there is a process, so that --detach does not say that all is well. */
static void test_what_a_process_would_find_is_found_first(void **state)
{
    static const struct {
        const char *set[3], *says;
    } wrong[] = {
        {{"data.limit=10"}, "data.limit = 10"},
        {{"data.path=/nonexistent"}, "data.path"},
        {{"run.slots=1024", "run.slot_size=65536"}, "run.slots * run.slot_size"},
        {{"encoder.widths=8,x"}, "encoder.widths = '8,x'"},
        {{"encoder.groups=7"}, "encoder.groups = 7"},
        {{"encoder.model=vit", "encoder.patch=5"}, "encoder.patch = 5"},
        {{"encoder.widths=65536,65536", "head.hidden=65536"}, "encoder.* and head.*"},
        {{"metrics.parameter=nonsense"}, "metrics.parameter = nonsense"},
        {{"net.parameter=tcp://lo:0"}, "net.parameter = tcp://lo:0: workers have to know the port"},
        {{"net.prototype=tcp://127.0.0.1:5701"}, "net.prototype = tcp://127.0.0.1:5701 is that of net.parameter"},
        {{"net.parameter=tcp://*:5799"}, "net.insecure = true"},
        {{"net.parameter=udp://127.0.0.1:1"}, "net.parameter = udp://127.0.0.1:1"},
        {{"net.parameter=tcp://192.0.2.1:5799", "net.insecure=true"}, "net.parameter = tcp://192.0.2.1:5799"},
        {{"net.parameter=tcp://127.0.0.1:5799", "keys.directory=/nonexistent"}, "/nonexistent/parameter.key"},
    };
    struct scratch *s = *state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct launch_options o = {.set_count = 0};
        while (o.set_count < 3 && wrong[i].set[o.set_count]) {
            o.sets[o.set_count] = wrong[i].set[o.set_count];
            o.set_count++;
        }
        int rc = make(s, &o);
        if (rc != ERR_CONFIG || !strstr(s->e.text, wrong[i].says))
            fail_msg("%s: %d, %s", wrong[i].set[0], rc, s->e.text);
        assert_int_equal(s->plan.sockets[0], '\0');
    }
    struct launch_options o = {.config = "/nonexistent.ini"};
    assert_int_equal(make(s, &o), ERR_CONFIG);
}

static void test_redis_choices(void **state)
{
    struct scratch *s = *state;
    struct launch_options automatic = {0}, off = {.redis = REDIS_OFF};
    struct launch_options given = {.redis = REDIS_GIVEN, .redis_address = "there:6380"};
    struct launch_options wrong = {.redis = REDIS_GIVEN, .redis_address = "there:x"};
    struct launch_options joint = {.sets = {"loss.prototypes=joint"}, .set_count = 1};
    struct launch_options named = {.sets = {"redis.url=redis://there:6381"}, .set_count = 1};
    assert_int_equal(make(s, &automatic), 0);
    assert_true(s->plan.redis_private);
    assert_int_equal(make(s, &off), 0);
    assert_false(s->plan.redis_private || s->plan.config.redis.enabled);
    assert_int_equal(make(s, &given), 0);
    assert_true(!s->plan.redis_private && s->plan.config.redis.enabled && s->plan.config.redis.port == 6380);
    assert_int_equal(make(s, &named), 0); /* who names one does not want another */
    assert_true(!s->plan.redis_private && s->plan.config.redis.enabled && s->plan.config.redis.port == 6381);
    assert_int_equal(make(s, &wrong), ERR_CONFIG);
    assert_int_equal(make(s, &joint), 0);
    assert_true(s->plan.joint && !s->plan.redis_private); /* nobody to mirror */
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
    assert_non_null(strstr(a->argv[0], "/decant")); /* the guard, and for whom it watches */
    assert_string_equal(a->argv[1], CHILD_GUARD);
    assert_int_equal(atoi(a->argv[2]), getpid());
    assert_non_null(strstr(a->argv[CHILD_GUARD_ARGUMENTS], "/decant-parameter"));
    assert_true(told(a, s->plan.config_path) && told(a, endpoint) && told(a, "--resume"));
    assert_true(told(a, "redis.enabled=false"));
    assert_null(a->argv[a->count]);
    launch_arguments_decant(a, &s->plan, "worker", false);
    assert_false(told(a, "--resume"));
    launch_arguments_redis(a, &s->plan);
    assert_string_equal(a->argv[1], CHILD_GUARD);
    assert_string_equal(a->argv[CHILD_GUARD_ARGUMENTS], "redis-server");
    free(a);
}

/* A URL's password goes to children by the environment alone: not as an argument, not through config.ini. */
static void test_password_of_a_redis_url(void **state)
{
    struct scratch *s = *state;
    struct launch_options o = {.redis = REDIS_GIVEN, .redis_address = "redis://me:s3cret@[::1]:7/3"};
    struct launch_arguments *a = calloc(1, sizeof *a);
    struct buf *config;
    assert_int_equal(make(s, &o), 0);
    launch_arguments_decant(a, &s->plan, "prototype", false);
    assert_true(told(a, "redis.host=::1") && told(a, "redis.port=7") && told(a, "redis.db=3") &&
                told(a, "redis.user=me"));
    for (int i = 0; i < a->count; i++)
        assert_null(strstr(a->argv[i], "s3cret"));
    char **environment = launch_environment(no_environment, &s->plan.config);
    assert_string_equal(environment[0], "DECANT_REDIS_PASSWORD=s3cret");
    assert_int_equal(file_read(s->plan.config_path, 1 << 20, &config, NULL), 0);
    assert_null(memmem(config->data, config->size, "s3cret", 6));
    buf_unref(&config);
    free(environment);
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
        CASE(test_resume_of_what_is_gone),
        CASE(test_written_paths_are_absolute),
        CASE(test_refuses_beside_living_processes),
        CASE(test_processes_are_known_by_their_files),
        CASE(test_refuses_endpoints_that_are_taken),
        CASE(test_workers_get_what_they_can_connect_to),
        CASE(test_what_a_process_would_find_is_found_first),
        CASE(test_redis_choices),
        CASE(test_password_of_a_redis_url),
        CASE(test_arguments_of_children),
        cmocka_unit_test(test_environment_of_children),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
