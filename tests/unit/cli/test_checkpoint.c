/* Finding and opening checkpoints, from every directory that a person may name, and damaged ones. */
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
#include "cli/prototype_set.h"
#include "cli/prototype_table.h"
#include "common/files.h"

enum { K = 4, D = 2 };
static const char ini[] = "[run]\nname = stored\n[mixture]\ncomponents = 4\ndimensions = 2\n[loss]\nblock = 2\n";

struct fixture {
    char root[64], step[128];
    struct error e;
};

static struct tensor_view view(const char *name, enum dtype t, uint32_t rank, uint64_t a, uint64_t b, const void *data)
{
    struct tensor_view v = {.dtype = t, .rank = rank, .shape = {a, b}, .data = data};
    v.size = a * (rank == 2 ? b : 1) * dtype_size(t);
    snprintf(v.name, sizeof v.name, "%s", name);
    return v;
}

static int write_encoder(const struct fixture *f, const char *text, const char *step)
{
    char path[192];
    struct tensor_view tensors[] = {view("config_ini", DTYPE_U8, 1, strlen(text), 0, text)};
    struct metadata_entry meta[] = {
        {.key = "step"}, {.key = "run", .value = "stored"}, {.key = "config", .value = "c0"}};
    snprintf(meta[0].value, sizeof meta[0].value, "%s", step);
    snprintf(path, sizeof path, "%s/encoder.safetensors", f->step);
    return safetensors_write(path, tensors, 1, meta, 3, NULL);
}

static int write_mixture_of(const struct fixture *f, const char *run, const char *step, const char *config)
{
    static const float mean[K * D] = {2, 0, 0, 3, -1, 0, 3, 0.3F}, weight[K] = {0.25F, 0.25F, 0.25F, 0.25F};
    static const double mass[K] = {1, 2, 4, 1}, usage[K] = {0.5, 0.25, 0.25, 0};
    const struct tensor_view tensors[] = {
        view("mean", DTYPE_F32, 2, K, D, mean),
        view("weight", DTYPE_F32, 1, K, 0, weight),
        view("mass", DTYPE_F64, 1, K, 0, mass),
        view("usage", DTYPE_F64, 1, K, 0, usage),
    };
    char path[192];
    struct metadata_entry meta[] = {{.key = "step"}, {.key = "run"}, {.key = "config"}};
    const char *const values[] = {step, run, config};
    for (int i = 0; i < 3; i++)
        snprintf(meta[i].value, sizeof meta[i].value, "%s", values[i]);
    snprintf(path, sizeof path, "%s/mixture.safetensors", f->step);
    return safetensors_write(path, tensors, 4, meta, 3, NULL);
}

static int write_mixture(const struct fixture *f)
{
    return write_mixture_of(f, "stored", "12", "c0");
}

static int write_latest(const struct fixture *f, const char *text)
{
    char path[192];
    struct file_part part = {text, strlen(text)};
    snprintf(path, sizeof path, "%s/checkpoints/latest", f->root);
    return file_write_atomic(path, &part, 1, NULL);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->root, sizeof f->root, "/tmp/decant-test-XXXXXX");
    *state = f;
    if (!mkdtemp(f->root))
        return -1;
    snprintf(f->step, sizeof f->step, "%s/checkpoints/step-000012", f->root);
    return dir_make(f->step, NULL) | write_encoder(f, ini, "12") | write_mixture(f) | write_latest(f, "step-000012\n");
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[160];
    snprintf(command, sizeof command, "rm -rf '%s'", f->root);
    int rc = system(command);
    free(f);
    return rc;
}

static void test_nothing_there(void **state)
{
    struct fixture *f = *state;
    char found[CHECKPOINT_PATH_MAX];
    assert_int_equal(checkpoint_find("/nonexistent", found, &f->e), ERR_NOT_FOUND);
    assert_non_null(strstr(f->e.text, "/nonexistent"));
    assert_int_equal(checkpoint_find("/dev/null", found, &f->e), ERR_IO);
    assert_non_null(strstr(f->e.text, "/dev/null is no directory"));
}

static void test_every_directory(void **state)
{
    struct fixture *f = *state;
    char found[CHECKPOINT_PATH_MAX], checkpoints[128];
    snprintf(checkpoints, sizeof checkpoints, "%s/checkpoints", f->root);
    const char *const names[] = {f->root, checkpoints, f->step};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(checkpoint_find(names[i], found, &f->e), 0);
        assert_string_equal(found, f->step);
    }
}

static void test_latest_is_not_trusted(void **state)
{
    struct fixture *f = *state;
    char found[CHECKPOINT_PATH_MAX];
    const char *const texts[] = {"../../etc", "step-1/../x", "", "step-000099\n", "\x1b[2Jstep-000012"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(write_latest(f, texts[i]), 0);
        assert_int_equal(checkpoint_find(f->root, found, &f->e), 0); /* the newest complete step instead */
        assert_string_equal(found, f->step);
    }
    char half[160];
    snprintf(half, sizeof half, "%s/mixture.safetensors", f->step);
    assert_int_equal(unlink(half), 0);
    assert_int_equal(write_latest(f, "../../etc"), 0);
    assert_int_equal(checkpoint_find(f->root, found, &f->e), ERR_FORMAT);
    assert_int_equal(write_latest(f, "step-000099"), 0);
    assert_int_equal(checkpoint_find(f->root, found, &f->e), ERR_NOT_FOUND);
    assert_non_null(strstr(f->e.text, "step-000099"));
}

static void test_open(void **state)
{
    struct fixture *f = *state;
    struct checkpoint c;
    assert_int_equal(checkpoint_open(f->root, &c, &f->e), 0);
    assert_int_equal(c.step, 12);
    assert_true(c.has_mixture);
    assert_string_equal(c.config.run.name, "stored");
    assert_int_equal(c.config.mixture.components, K);
    checkpoint_close(&c);
}

static void test_damaged(void **state)
{
    struct fixture *f = *state;
    struct checkpoint c;
    assert_int_equal(write_encoder(f, ini, "twelve"), 0);
    assert_int_equal(checkpoint_open(f->root, &c, &f->e), ERR_FORMAT);
    assert_int_equal(write_encoder(f, "[run]\nno_such_key = 1\n", "12"), 0);
    assert_int_equal(checkpoint_open(f->root, &c, &f->e), ERR_CONFIG);
}

/* A mixture of another run, step or configuration beside the encoder: every figure about the two would be wrong. */
static void test_files_that_do_not_belong_together(void **state)
{
    struct fixture *f = *state;
    struct checkpoint c;
    static const struct {
        const char *run, *step, *config, *says;
    } cases[] = {
        {"other", "12", "c0", "mixture.safetensors: belongs to run 'other', the encoder beside it to run 'stored'"},
        {"stored", "11", "c0", "mixture.safetensors: is of step 11, the encoder beside it of step 12"},
        {"stored", "12", "c1", "mixture.safetensors: has configuration c1, the encoder beside it c0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(write_mixture_of(f, cases[i].run, cases[i].step, cases[i].config), 0);
        assert_int_equal(checkpoint_open(f->root, &c, &f->e), ERR_STATE);
        assert_non_null(strstr(f->e.text, cases[i].says));
    }
    assert_int_equal(write_mixture_of(f, "", "12", "c0"), 0);
    assert_int_equal(checkpoint_open(f->root, &c, &f->e), ERR_FORMAT);
    assert_int_equal(write_mixture(f), 0);
    assert_int_equal(write_encoder(f, ini, "13"), 0);
    assert_int_equal(checkpoint_open(f->root, &c, &f->e), ERR_STATE);
    assert_non_null(strstr(f->e.text, "encoder.safetensors: says step 13, its directory 12"));
}

/* A whole step of another run, put into this one's directory: its files agree with each other. */
static void test_a_step_that_does_not_belong_here(void **state)
{
    struct fixture *f = *state;
    struct checkpoint c;
    char path[128];
    static const struct {
        const char *config, *says; /* NULL: it belongs here */
    } cases[] = {
        {"[run]\nname = stored\nout = elsewhere\n[mixture]\ncomponents = 4\ndimensions = 2\n[loss]\nblock = 2\n", NULL},
        {"[run]\nname = x\n[mixture]\ncomponents = 4\ndimensions = 2\n[loss]\nblock = 2\n",
         "encoder.safetensors: belongs to run 'stored', its directory to run 'x'"},
        {"[run]\nname = stored\n[mixture]\ncomponents = 4\ndimensions = 8\n[loss]\nblock = 2\n", "mixture.dimensions"},
        {"[of]\nanother = version\n", NULL},
    };
    snprintf(path, sizeof path, "%s/config.ini", f->root);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file_part part = {cases[i].config, strlen(cases[i].config)};
        assert_int_equal(file_write_atomic(path, &part, 1, NULL), 0);
        assert_int_equal(checkpoint_open(f->step, &c, &f->e), cases[i].says ? ERR_STATE : 0);
        if (cases[i].says)
            assert_non_null(strstr(f->e.text, cases[i].says));
        checkpoint_close(&c);
    }
}

/* What may not be read could be anything, but not absent. Root may read everything, so another user looks. */
static void test_forbidden_is_not_absent(void **state)
{
    struct fixture *f = *state;
    char found[CHECKPOINT_PATH_MAX], path[192];
    struct source_options o = {.directory = f->root};
    struct run_source s;
    struct step_list l;
    const char *const closed[] = {"", "/checkpoints", "/checkpoints/latest", "/checkpoints/step-000012"};
    uid_t was = geteuid();
    if (was != 0)
        skip();
    assert_int_equal(chown(f->root, 65534, 65534), 0);
    for (size_t i = 0; i < sizeof closed / sizeof closed[0]; i++) {
        snprintf(path, sizeof path, "%s%s", f->root, closed[i]);
        assert_int_equal(chmod(path, 0), 0);
        assert_int_equal(setresuid(65534, 65534, 0), 0);
        int rc = checkpoint_find(f->root, found, &f->e), opened = run_source_open(&o, &s, NULL),
            listed = i == 2 ? ERR_IO : step_list_read(f->root, &l, NULL); /* a list does not need `latest` */
        assert_int_equal(setresuid(was, was, was), 0);
        assert_int_equal(chmod(path, 0755), 0);
        assert_int_equal(rc, ERR_IO);
        assert_non_null(strstr(f->e.text, "Permission denied"));
        assert_int_equal(opened, ERR_IO);
        assert_int_equal(listed, ERR_IO);
    }
}

static void test_prototype_set(void **state)
{
    struct fixture *f = *state;
    struct checkpoint c;
    struct prototype_set set;
    assert_int_equal(checkpoint_open(f->root, &c, &f->e), 0);
    assert_int_equal(prototype_set_load(&c, &set, &f->e), 0);
    assert_true(set.K == K && set.D == D && set.unit[0] == 1.0F && set.unit[3] == 1.0F && set.mass[2] == 4.0);
    prototype_set_fini(&set);
    c.config.mixture.components = K + 1; /* not the shape in the file */
    assert_int_equal(prototype_set_load(&c, &set, &f->e), ERR_FORMAT);
    c.config.loss.prototypes = PROTOTYPES_JOINT; /* no such tensor */
    assert_int_equal(prototype_set_load(&c, &set, &f->e), ERR_FORMAT);
    checkpoint_close(&c);
}

static void test_prototype_table(void **state)
{
    struct fixture *f = *state;
    struct source_options o = {.directory = f->root};
    struct run_source s;
    struct prototype_row *rows;
    uint32_t count;
    assert_int_equal(run_source_open(&o, &s, &f->e), 0);
    assert_string_equal(s.run, "stored");
    assert_int_equal(prototype_table_read(&s, &rows, &count, &f->e), 0);
    assert_int_equal(count, K);
    assert_int_equal(rows[0].nearest, 3);
    assert_true(rows[2].weight == 0.5);
    prototype_table_sort(rows, count, ORDER_WEIGHT);
    assert_true(rows[0].index == 2 && rows[1].index == 1 && rows[2].index == 0 && rows[3].index == 3);
    prototype_table_sort(rows, count, ORDER_NEAREST);
    assert_true(rows[0].index == 0 && rows[1].index == 3);
    free(rows);
    run_source_close(&s);
}

/* A launcher that was killed leaves an address behind, or half of one; and it comes with a copy of the directory. */
static void test_stale_mirror_address(void **state)
{
    struct fixture *f = *state;
    struct source_options o = {.directory = f->root};
    struct run_source s;
    char path[192];
    static const char *const addresses[] = {"127.0.0.1:1\n", "127.0.0.1:no-port\n", ""};
    snprintf(path, sizeof path, "%s/redis", f->root);
    assert_int_equal(dir_make(path, NULL), 0);
    snprintf(path, sizeof path, "%s/redis/address", f->root);
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct file_part part = {addresses[i], strlen(addresses[i])};
        assert_int_equal(file_write_atomic(path, &part, 1, NULL), 0);
        for (int held = 0; held < 2; held++) { /* by nobody: not to be believed; by a launcher: nobody answers there */
            int lock = -1;
            snprintf(path, sizeof path, "%s/lock-launcher", f->root);
            if (held)
                assert_int_equal(file_lock(path, &lock, NULL), 0);
            assert_int_equal(run_source_open_live(&o, &s, &f->e) == ERR_NOT_FOUND, !held);
            assert_int_equal(run_source_open(&o, &s, &f->e), 0);
            assert_true(s.redis == NULL && s.checkpoint.step == 12);
            run_source_close(&s);
            if (held)
                close(lock);
        }
        snprintf(path, sizeof path, "%s/redis/address", f->root);
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_nothing_there),
        CASE(test_every_directory),
        CASE(test_latest_is_not_trusted),
        CASE(test_open),
        CASE(test_damaged),
        CASE(test_files_that_do_not_belong_together),
        CASE(test_a_step_that_does_not_belong_here),
        CASE(test_forbidden_is_not_absent),
        CASE(test_prototype_set),
        CASE(test_prototype_table),
        CASE(test_stale_mirror_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
