/* Checkpoints on disk: the round trip, resuming byte for byte, damage, foreign files, the generation. */
#include <stdlib.h>
#include <unistd.h>
#include "common/files.h"
#include "common/safetensors.h"
#include "common/version.h"
#include "server/parameter/encoder_checkpoint.h"
#include "tests/unit/parameter/core_rig.h"

struct place {
    char dir[64], out[96]; /* temporary directory; "run.out=DIR" */
};

static int make_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    snprintf(p->dir, sizeof p->dir, "/tmp/decant-parameter-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->out, sizeof p->out, "run.out=%s", p->dir);
    *state = p;
    return 0;
}

static int remove_place(void **state)
{
    struct place *p = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", p->dir);
    int rc = system(command);
    free(p);
    return rc;
}

static struct rig rig_at(const struct place *p, const char *extra)
{
    struct rig r = {0};
    rig_configure(&r, p->out, extra);
    rig_start(&r);
    return r;
}

static void write_due(struct rig *r)
{
    struct encoder_state s;
    struct error e = {0};
    if (!parameter_core_take_checkpoint(r->core, &s))
        return;
    if (encoder_checkpoint_write(&r->config, &s, &e) != 0)
        fail_msg("%s", e.text);
    encoder_state_fini(&s);
}

/* Steps up to `end`, writing what is due. */
static void run_and_write(struct rig *r, uint64_t end)
{
    for (uint64_t t = parameter_core_step(r->core) + 1; t <= end; t++) {
        rig_run_to(r, t);
        write_due(r);
    }
}

/* The rig's files of steps 2 and 4. */
static void write_two(const struct place *p, const char *extra)
{
    struct rig r = rig_at(p, extra);
    rig_init(&r);
    run_and_write(&r, 5);
    rig_free(&r);
}

static void path_of(const struct place *p, const char *below, char out[160])
{
    assert_int_equal(path_format(out, 160, "%s/%s", p->dir, below), 0);
}

static struct buf *read_whole(const struct place *p, const char *below)
{
    char path[160];
    struct buf *b = NULL;
    struct error e = {0};
    path_of(p, below, path);
    if (file_read(path, 1 << 20, &b, &e) != 0)
        fail_msg("%s", e.text);
    return b;
}

static void write_whole(const struct place *p, const char *below, const void *data, size_t size)
{
    char path[160];
    struct error e = {0};
    path_of(p, below, path);
    assert_int_equal(file_write_atomic(path, &(struct file_part){data, size}, 1, &e), 0);
}

static void assert_same_bytes(const struct buf *a, const struct buf *b)
{
    assert_int_equal(a->size, b->size);
    assert_memory_equal(a->data, b->data, a->size);
}

static void assert_latest(const struct place *p, const char *expected)
{
    struct buf *b = read_whole(p, "checkpoints/latest");
    assert_int_equal(b->size, strlen(expected));
    assert_memory_equal(b->data, expected, b->size);
    buf_unref(&b);
}

static struct encoder_state resume(struct rig *r)
{
    struct encoder_state s;
    struct error e = {0};
    if (encoder_checkpoint_resume(&r->config, UINT64_MAX, &s, &e) != 0)
        fail_msg("%s", e.text);
    return s;
}

static int resume_fails(struct rig *r, struct error *e)
{
    struct encoder_state s;
    return encoder_checkpoint_resume(&r->config, UINT64_MAX, &s, e);
}

static void test_nothing_there_is_not_found(void **state)
{
    struct rig r = rig_at(*state, NULL);
    struct error e = {0};
    assert_int_equal(resume_fails(&r, &e), ERR_NOT_FOUND);
    rig_free(&r);
}

static void test_what_is_read_is_what_was_written(void **state)
{
    struct rig r = rig_at(*state, NULL);
    rig_init(&r);
    rig_run_to(&r, 2);
    struct encoder_state written, read;
    struct error e = {0};
    assert_true(parameter_core_take_checkpoint(r.core, &written));
    written.provenance = (struct provenance){.data = 7, .data_before = 6, .data_since = 1, .server_numerics = 9};
    assert_int_equal(encoder_checkpoint_write(&r.config, &written, &e), 0);
    read = resume(&r);
    assert_int_equal(read.step, 2);
    assert_int_equal(read.total_steps, RIG_STEPS);
    assert_memory_equal(&read.provenance, &written.provenance, sizeof read.provenance);
    assert_true(manifest_equal(&read.manifest, &written.manifest));
    assert_same_bytes(read.vectors.student, written.vectors.student);
    assert_same_bytes(read.vectors.teacher, written.vectors.teacher);
    assert_same_bytes(read.vectors.buffers, written.vectors.buffers);
    assert_same_bytes(read.vectors.moments[0], written.vectors.moments[0]);
    assert_same_bytes(read.vectors.moments[1], written.vectors.moments[1]);
    encoder_state_fini(&read);
    encoder_state_fini(&written);
    rig_free(&r);
}

static void test_a_file_explains_itself(void **state)
{
    const struct place *p = *state;
    char path[160], hash[32];
    struct safetensors file;
    struct error e = {0};
    const uint64_t shape[2] = {7, 3};
    write_two(p, "optimiser.name=sgd");
    path_of(p, "checkpoints/step-000004/encoder.safetensors", path);
    assert_int_equal(safetensors_read(path, &file, &e), 0);
    struct rig r = rig_at(p, "optimiser.name=sgd");
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)run_config_hash(&r.config));
    assert_string_equal(safetensors_meta(&file, "kind"), "encoder");
    assert_string_equal(safetensors_meta(&file, "run"), "rig");
    assert_string_equal(safetensors_meta(&file, "step"), "4");
    assert_string_equal(safetensors_meta(&file, "total_steps"), "6");
    assert_string_equal(safetensors_meta(&file, "config"), hash);
    assert_string_equal(safetensors_meta(&file, "version"), DECANT_VERSION);
    assert_non_null(safetensors_find(&file, "student.weight", DTYPE_F32, 2, shape, &e));
    assert_non_null(safetensors_find(&file, "teacher.weight", DTYPE_F32, 2, shape, &e));
    assert_non_null(safetensors_find(&file, "sgd_v.weight", DTYPE_F32, 2, shape, &e));
    assert_null(safetensors_find(&file, "adam_m.weight", DTYPE_F32, 2, shape, &e));
    const struct tensor_view *ini = &file.tensors[file.tensor_count - 1];
    assert_string_equal(ini->name, "config_ini");
    write_whole(p, "config.ini", ini->data, ini->size);
    struct run_config loaded;
    path_of(p, "config.ini", path);
    assert_int_equal(run_config_load(&loaded, path, NULL, NULL, 0, &e), 0);
    assert_true(run_config_hash(&loaded) == run_config_hash(&r.config));
    safetensors_fini(&file);
    rig_free(&r);
}

static void test_a_resumed_run_ends_with_the_same_bytes(void **state)
{
    const struct place *p = *state;
    struct rig whole = rig_at(p, NULL);
    rig_init(&whole);
    run_and_write(&whole, RIG_STEPS);
    rig_free(&whole);
    assert_latest(p, "step-000006\n");
    struct buf *expected = read_whole(p, "checkpoints/step-000006/encoder.safetensors");
    write_whole(p, "checkpoints/step-000006/encoder.safetensors", "torn", 4);

    struct rig r = rig_at(p, NULL);
    struct encoder_state s = resume(&r);
    assert_int_equal(s.step, 4);
    assert_int_equal(parameter_core_resume(r.core, &s), 0);
    struct msg m = rig_msg(MSG_HELLO, RIG_BOB);
    rig_send(&r, &m);
    assert_int_equal(rig_find(&r, MSG_WELCOME)->code, 0);
    assert_int_equal(rig_find(&r, MSG_WELCOME)->step, 4);
    rig_request(&r, RIG_BOB, 1);
    assert_int_equal(rig_find(&r, MSG_LEASE)->step, 4);
    run_and_write(&r, RIG_STEPS);
    struct buf *got = read_whole(p, "checkpoints/step-000006/encoder.safetensors");
    assert_same_bytes(got, expected);
    buf_unref(&got);
    buf_unref(&expected);
    rig_free(&r);
}

static void test_arrival_does_not_change_a_byte_of_the_file(void **state)
{
    const struct place *p = *state;
    write_two(p, NULL);
    struct buf *expected = read_whole(p, "checkpoints/step-000004/encoder.safetensors");
    struct rig r = rig_at(p, NULL);
    rig_init(&r);
    for (uint64_t t = 0; t < 4; t++) {
        rig_contribute(&r, t, 3, 1);
        rig_contribute(&r, t, 0, 2);
        rig_contribute(&r, t, 3, 1);
        rig_contribute(&r, t, 2, 1);
        write_due(&r);
    }
    struct buf *got = read_whole(p, "checkpoints/step-000004/encoder.safetensors");
    assert_same_bytes(got, expected);
    buf_unref(&got);
    buf_unref(&expected);
    rig_free(&r);
}

static void test_where_and_how_it_ran_does_not_change_a_byte(void **state)
{
    const struct place *p = *state;
    struct place elsewhere = *p;
    char dir[160];
    struct error e = {0};
    assert_int_equal(path_format(elsewhere.dir, sizeof elsewhere.dir, "%s/b", p->dir), 0);
    assert_int_equal(path_format(elsewhere.out, sizeof elsewhere.out, "run.out=%s/b", p->dir), 0);
    path_of(p, "b", dir);
    assert_int_equal(dir_make(dir, &e), 0);
    write_two(p, NULL);
    write_two(&elsewhere, "net.parameter=tcp://*:7777");
    struct buf *a = read_whole(p, "checkpoints/step-000004/encoder.safetensors");
    struct buf *b = read_whole(&elsewhere, "checkpoints/step-000004/encoder.safetensors");
    assert_same_bytes(a, b);
    buf_unref(&a);
    buf_unref(&b);
}

static void test_a_finished_run_resumes_as_finished(void **state)
{
    struct rig r = rig_at(*state, NULL);
    rig_init(&r);
    run_and_write(&r, RIG_STEPS);
    rig_free(&r);
    r = rig_at(*state, NULL);
    struct encoder_state s = resume(&r);
    assert_int_equal(parameter_core_resume(r.core, &s), 0);
    assert_false(parameter_core_finished(r.core));
    rig_durable(&r);
    assert_true(parameter_core_finished(r.core));
    rig_request(&r, RIG_ALICE, 1);
    assert_int_equal(rig_find(&r, MSG_STOP)->code, STOP_FINISHED);
    rig_free(&r);
}

static void test_a_damaged_file_costs_the_steps_since_the_one_before(void **state)
{
    const struct place *p = *state;
    write_two(p, NULL);
    struct rig r = rig_at(p, NULL);
    struct buf *file = read_whole(p, "checkpoints/step-000004/encoder.safetensors");
    struct encoder_state s = resume(&r);
    assert_int_equal(s.step, 4);
    encoder_state_fini(&s);
    write_whole(p, "checkpoints/step-000004/encoder.safetensors", file->data, file->size / 2);
    s = resume(&r);
    assert_int_equal(s.step, 2);
    encoder_state_fini(&s);
    size_t payload = 8; /* into the data section, past the header's length and text */
    for (unsigned i = 0; i < 8; i++)
        payload += (size_t)file->data[i] << (8 * i);
    file->data[payload + 5] ^= 1;
    write_whole(p, "checkpoints/step-000004/encoder.safetensors", file->data, file->size);
    s = resume(&r);
    assert_int_equal(s.step, 2);
    encoder_state_fini(&s);
    buf_unref(&file);
    rig_free(&r);
}

static void test_a_file_under_the_wrong_step_is_passed_over(void **state)
{
    const struct place *p = *state;
    char dir[160];
    struct error e = {0};
    write_two(p, NULL);
    struct buf *file = read_whole(p, "checkpoints/step-000002/encoder.safetensors");
    path_of(p, "checkpoints/step-000009", dir);
    assert_int_equal(dir_make(dir, &e), 0);
    write_whole(p, "checkpoints/step-000009/encoder.safetensors", file->data, file->size);
    buf_unref(&file);
    struct rig r = rig_at(p, NULL);
    struct encoder_state s = resume(&r);
    assert_int_equal(s.step, 4);
    encoder_state_fini(&s);
    rig_free(&r);
}

static void test_another_configuration_is_an_error_not_a_fallback(void **state)
{
    struct error e = {0};
    write_two(*state, NULL);
    struct rig r = rig_at(*state, "optimiser.lr=0.5");
    assert_int_equal(resume_fails(&r, &e), ERR_CONFIG);
    rig_free(&r);
}

/* Decoupled: the step counts, for `latest` and for resuming, once both servers' files are there and sound. */
static void test_a_step_is_complete_with_the_files_of_both_servers(void **state)
{
    const struct place *p = *state;
    struct error e = {0};
    char path[160];
    const char *decoupled = "loss.prototypes=decoupled";
    write_two(p, decoupled);
    struct rig r = rig_at(p, decoupled);
    path_of(p, "checkpoints/latest", path);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(resume_fails(&r, &e), ERR_NOT_FOUND);
    struct buf *file = read_whole(p, "checkpoints/step-000002/encoder.safetensors");
    write_whole(p, "checkpoints/step-000002/mixture.safetensors", file->data, file->size);
    write_whole(p, "checkpoints/step-000004/mixture.safetensors", file->data, file->size / 2);
    struct encoder_state s = resume(&r);
    assert_int_equal(s.step, 2);
    assert_int_equal(encoder_checkpoint_write(&r.config, &s, &e), 0);
    assert_latest(p, "step-000002\n");
    encoder_state_fini(&s);
    buf_unref(&file);
    rig_free(&r);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_there_is_not_found),
        TEST(test_what_is_read_is_what_was_written),
        TEST(test_a_file_explains_itself),
        TEST(test_a_resumed_run_ends_with_the_same_bytes),
        TEST(test_arrival_does_not_change_a_byte_of_the_file),
        TEST(test_where_and_how_it_ran_does_not_change_a_byte),
        TEST(test_a_finished_run_resumes_as_finished),
        TEST(test_a_damaged_file_costs_the_steps_since_the_one_before),
        TEST(test_a_file_under_the_wrong_step_is_passed_over),
        TEST(test_another_configuration_is_an_error_not_a_fallback),
        TEST(test_a_step_is_complete_with_the_files_of_both_servers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
