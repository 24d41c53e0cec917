/* Beginning with given weights: files that are not there or not fit, then what of a file is taken. */
#include <math.h>
#include <stdlib.h>
#include "common/files.h"
#include "server/parameter/initial_weights.h"
#include "tests/unit/parameter/core_rig.h"

static char directory[64];

static int make_directory(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR);
    strcpy(directory, "/tmp/test_initial.XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

static const char *below(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static struct tensor_view view(const char *name, uint32_t rank, uint64_t a, uint64_t b, const float *data)
{
    struct tensor_view t = {.dtype = DTYPE_F32, .rank = rank, .shape = {a, b}, .data = data};
    t.size = sizeof(float) * a * (rank == 2 ? b : 1);
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

/* conv (3,2), bias (2) frozen, prototypes (2,2); buffer mean (2). */
static struct manifest manifest(void)
{
    struct manifest m;
    struct manifest_entry conv = {.name = "conv1.weight", .rank = 2, .shape = {3, 2}, .lr_scale = 1};
    struct manifest_entry bias = {.name = "bias", .rank = 1, .shape = {2}};
    struct manifest_entry prototypes = {.name = "prototypes", .rank = 2, .shape = {2, 2}, .lr_scale = 1};
    struct manifest_entry mean = {.name = "head.mean", .rank = 1, .shape = {2}, .momentum = 0.1};
    manifest_init(&m);
    assert_int_equal(manifest_add_parameter(&m, &conv), 0);
    assert_int_equal(manifest_add_parameter(&m, &bias), 0);
    assert_int_equal(manifest_add_parameter(&m, &prototypes), 0);
    assert_int_equal(manifest_add_buffer(&m, &mean), 0);
    return m;
}

static struct run_config config(const char *init, const char *map)
{
    struct run_config c = {0};
    snprintf(c.encoder.init, sizeof c.encoder.init, "%s", init);
    snprintf(c.encoder.init_map, sizeof c.encoder.init_map, "%s", map);
    return c;
}

static void expect_refused(const char *init, const char *map, const char *said)
{
    struct run_config c = config(init, map);
    struct initial_weights *w;
    struct error e = {0};
    assert_int_equal(initial_weights_open(&c, &w, &e), ERR_CONFIG);
    assert_null(w);
    if (strstr(e.text, said) == NULL)
        fail_msg("'%s' does not say '%s'", e.text, said);
}

static void write_file(const char *name, const struct tensor_view *t, size_t n, const char *kind)
{
    struct metadata_entry meta = {.key = "kind"};
    snprintf(meta.value, sizeof meta.value, "%s", kind ? kind : "");
    assert_int_equal(safetensors_write(below(name), t, n, &meta, kind ? 1 : 0, NULL), 0);
}

static const float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static void test_none(void **state)
{
    struct run_config c = config("", "");
    struct initial_weights *w;
    (void)state;
    assert_int_equal(initial_weights_open(&c, &w, NULL), 0);
    assert_null(w);
    initial_weights_free(&w);
}

static void test_unfit_files(void **state)
{
    (void)state;
    char path[256];
    expect_refused("/absent", "", "encoder.init = /absent: /absent: no encoder.safetensors there; name a run's");
    snprintf(path, sizeof path, "%s", below("text"));
    assert_int_equal(file_write_atomic(path, &(struct file_part){"hello", 5}, 1, NULL), 0);
    expect_refused(path, "", "text");
    assert_int_equal(dir_make(below("run/checkpoints"), NULL), 0);
    assert_int_equal(file_write_atomic(below("run/checkpoints/latest"), &(struct file_part){"../x", 4}, 1, NULL), 0);
    expect_refused(below("run"), "", "expected step-NNNNNN");
    assert_int_equal(
        file_write_atomic(below("run/checkpoints/latest"), &(struct file_part){"step-000002\n", 12}, 1, NULL), 0);
    expect_refused(below("run"), "", "has no encoder.safetensors");
    write_file("x.safetensors", &(struct tensor_view){.dtype = DTYPE_F32, .rank = 1, .name = "a"}, 1, NULL);
    snprintf(path, sizeof path, "%s", below("x.safetensors"));
    expect_refused(path, "/absent.map", "encoder.init_map = /absent.map");
    char map[256];
    snprintf(map, sizeof map, "%s", below("text"));
    expect_refused(path, map, "line 1, 'hello'");
}

static void apply(const char *init, const char *map, float params[12], float buffers[2], struct initial_counts *counts)
{
    struct run_config c = config(init, map);
    struct initial_weights *w;
    struct error e = {0};
    struct manifest m = manifest();
    for (size_t i = 0; i < 12; i++)
        params[i] = -1;
    buffers[0] = buffers[1] = -1;
    assert_int_equal(initial_weights_open(&c, &w, &e), 0);
    if (initial_weights_apply(w, &m, params, buffers, counts, &e) != 0)
        fail_msg("%s", e.text);
    assert_true(initial_weights_fingerprint(w) != 0);
    initial_weights_free(&w);
    manifest_fini(&m);
}

/* By each of the directories that name it: the teacher, with its running statistics; prototypes of another K stay. */
static void test_checkpoint(void **state)
{
    const struct tensor_view tensors[] = {
        view("student.conv1.weight", 2, 3, 2, numbers + 1), view("teacher.conv1.weight", 2, 3, 2, numbers),
        view("teacher.prototypes", 2, 4, 2, numbers),       view("teacher.gone", 1, 1, 0, numbers),
        view("buffer.head.mean", 1, 2, 0, numbers + 6),     view("adam_m.conv1.weight", 2, 3, 2, numbers),
    };
    static const char *const names[] = {"run", "run/checkpoints", "run/checkpoints/step-000002",
                                        "run/checkpoints/step-000002/encoder.safetensors", "run/checkpoints/best"};
    static const char best[] = "step-000002 knn=81\n";
    float params[12], buffers[2];
    struct initial_counts counts;
    (void)state;
    assert_int_equal(dir_make(below(names[2]), NULL), 0);
    write_file(names[3], tensors, 6, "encoder");
    assert_int_equal(
        file_write_atomic(below("run/checkpoints/latest"), &(struct file_part){"step-000002\n", 12}, 1, NULL), 0);
    assert_int_equal(file_write_atomic(below(names[4]), &(struct file_part){best, sizeof best - 1}, 1, NULL), 0);
    for (size_t i = 0; i < 5; i++) {
        apply(below(names[i]), "", params, buffers, &counts); /* best: a pointer with more behind the step */
        assert_memory_equal(params, numbers, 6 * sizeof(float));
        assert_true(params[6] == -1 && params[11] == -1 && buffers[0] == 7 && buffers[1] == 8);
        assert_true(counts.taken == 2 && counts.absent == 1 && counts.other_shape == 1 && counts.unused == 1);
        assert_true(counts.backbone == 1 && counts.frozen == 1);
    }
}

static void test_map(void **state)
{
    const struct tensor_view tensors[] = {view("stem.w", 2, 3, 2, numbers), view("bias", 1, 2, 0, numbers),
                                          view("prototypes", 2, 2, 2, numbers + 4)};
    static const char map[] = "conv1.weight = stem.w\nbias = -\n";
    float params[12], buffers[2];
    char path[256];
    struct initial_counts counts;
    (void)state;
    write_file("x.safetensors", tensors, 3, NULL);
    assert_int_equal(file_write_atomic(below("map"), &(struct file_part){map, sizeof map - 1}, 1, NULL), 0);
    snprintf(path, sizeof path, "%s", below("x.safetensors"));
    apply(path, below("map"), params, buffers, &counts);
    assert_memory_equal(params, numbers, 6 * sizeof(float));
    assert_true(params[6] == -1 && params[7] == -1 && params[8] == 5 && params[11] == 8);
    assert_true(counts.taken == 2 && counts.skipped == 1 && counts.absent == 1 && counts.unused == 1);
    assert_int_equal(counts.frozen, 1); /* the bias; running statistics are never frozen */
}

static void test_nothing_fits(void **state)
{
    const float bad[2] = {1, NAN};
    const struct tensor_view strange = view("conv", 2, 3, 2, numbers), infinite = view("bias", 1, 2, 0, bad);
    struct initial_counts counts;
    struct error e = {0};
    float params[12] = {0}, buffers[2] = {0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct initial_weights *w;
        struct manifest m = manifest();
        write_file("x.safetensors", i == 0 ? &strange : &infinite, 1, NULL);
        struct run_config c = config(below("x.safetensors"), "");
        assert_int_equal(initial_weights_open(&c, &w, &e), 0);
        assert_int_equal(initial_weights_apply(w, &m, params, buffers, &counts, &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, i == 0 ? "4 are not there" : "not finite"));
        initial_weights_free(&w);
        manifest_fini(&m);
    }
}

/* The core publishes what it was given, and says in its checkpoints where it began. */
static void test_core_begins_with_them(void **state)
{
    float weight[RIG_P - 3];
    struct rig r = rig_new(NULL);
    struct initial_weights *w;
    struct encoder_state s;
    (void)state;
    rig_fill(weight, RIG_P - 3, 7, 7);
    const struct tensor_view t = view("weight", 2, 7, 3, weight);
    write_file("x.safetensors", &t, 1, NULL);
    struct run_config c = config(below("x.safetensors"), "");
    assert_int_equal(initial_weights_open(&c, &w, NULL), 0);
    parameter_core_set_initial(r.core, w);
    rig_init(&r);
    struct msg m = rig_msg(MSG_WEIGHTS_GET, RIG_ALICE);
    rig_send(&r, &m);
    const struct msg *answer = &r.out.items[r.out.count - 1].msg;
    assert_int_equal(answer->type, MSG_WEIGHTS);
    assert_memory_equal(msg_tensor(answer, "student", DTYPE_F32, NULL)->data->data, weight, sizeof weight);
    assert_memory_equal(msg_tensor(answer, "teacher", DTYPE_F32, NULL)->data->data, weight, sizeof weight);
    rig_run_to(&r, 2);
    assert_true(parameter_core_take_checkpoint(r.core, &s));
    assert_true(s.provenance.init == initial_weights_fingerprint(w));
    encoder_state_fini(&s);
    rig_free(&r);
    initial_weights_free(&w);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        CASE(test_none), CASE(test_unfit_files),  CASE(test_checkpoint),
        CASE(test_map),  CASE(test_nothing_fits), CASE(test_core_begins_with_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
