/* What is taken out of a checkpoint, under which names, and the bytes of .npz files. */
#include "cli/export_set.h"
#include "cli/npz_write.h"
#include "tests/unit/cli/checkpoint_rig.h"

static void open_step(struct rig *r, const char *ini, bool mixture, struct checkpoint *c)
{
    char path[160];
    rig_encoder(r, "a", 8, ini, 3);
    if (mixture)
        rig_mixture(r, "a", 8, 1);
    rig_step(r, "a", 8, path);
    assert_int_equal(checkpoint_open(path, c, &r->e), 0);
}

static void assert_names(const struct export_set *s, size_t n, const char *const *names)
{
    assert_int_equal(s->count, n);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(s->tensors[i].name, names[i]);
}

static void test_network(void **state)
{
    struct rig *r = *state;
    struct checkpoint c;
    struct export_set s;
    open_step(r, RIG_INI, true, &c);
    assert_int_equal(export_set_make(&c, EXPORT_STUDENT, &s, &r->e), 0);
    assert_names(&s, 2, (const char *[]){"a.weight", "a.mean"});
    export_set_fini(&s);
    assert_int_equal(export_set_make(&c, EXPORT_TEACHER, &s, &r->e), 0);
    assert_names(&s, 3, (const char *[]){"a.weight", "prototypes", "a.mean"});
    assert_true(s.tensors[0].shape[1] == 2 && ((const float *)s.tensors[0].data)[3] == 4);
    export_set_fini(&s);
    assert_int_equal(export_set_make(&c, EXPORT_ENCODER, &s, &r->e), 0);
    assert_names(&s, 4,
                 (const char *[]){"student.a.weight", "teacher.a.weight", "teacher.prototypes", "buffer.a.mean"});
    export_set_fini(&s);
    checkpoint_close(&c);
}

static void test_prototypes(void **state)
{
    struct rig *r = *state;
    struct checkpoint c;
    struct export_set s;
    for (int joint = 0; joint < 2; joint++) {
        open_step(r, joint ? RIG_INI_JOINT : RIG_INI, !joint, &c);
        assert_int_equal(export_set_make(&c, EXPORT_PROTOTYPES, &s, &r->e), 0);
        assert_names(&s, 1, (const char *[]){"prototypes"});
        const float *unit = s.tensors[0].data;
        assert_true(unit[0] == 1 && unit[3] == 1 && unit[6] == 0.6F && unit[7] == 0.8F);
        export_set_fini(&s);
        checkpoint_close(&c);
        assert_int_equal(rig_teardown(state), 0);
        assert_int_equal(rig_setup(state), 0);
        r = *state;
    }
}

static void test_mixture(void **state)
{
    struct rig *r = *state;
    struct checkpoint c;
    struct export_set s;
    open_step(r, RIG_INI, true, &c);
    assert_int_equal(export_set_make(&c, EXPORT_MIXTURE, &s, &r->e), 0);
    assert_names(&s, 5, (const char *[]){"mass", "usage", "mean", "variance", "weight"});
    export_set_fini(&s);
    checkpoint_close(&c);
}

static void test_nothing_of_the_kind(void **state)
{
    struct rig *r = *state;
    struct checkpoint c;
    struct export_set s;
    open_step(r, RIG_INI_JOINT, false, &c);
    assert_int_equal(export_set_make(&c, EXPORT_MIXTURE, &s, &r->e), ERR_NOT_FOUND);
    assert_non_null(strstr(r->e.text, "--what prototypes"));
    c.encoder.tensor_count = 0;
    assert_int_equal(export_set_make(&c, EXPORT_STUDENT, &s, &r->e), ERR_NOT_FOUND);
    checkpoint_close(&c);
}

static void test_npz(void **state)
{
    static const float a[6] = {1, 2, 3, 4, 5, 6};
    static const uint8_t b[1] = {7};
    struct rig *r = *state;
    const struct tensor_view tensors[] = {
        rig_view("a.weight", DTYPE_F32, 2, 2, 3, a),
        rig_view("b", DTYPE_U8, 1, 1, 0, b),
        rig_view("empty", DTYPE_F64, 1, 0, 0, a),
    };
    char path[160], again[160];
    struct buf *first, *second;
    snprintf(path, sizeof path, "%s/x.npz", r->root);
    snprintf(again, sizeof again, "%s/y.npz", r->root);
    assert_int_equal(npz_write(path, tensors, 3, 0, &r->e), 0);
    assert_int_equal(npz_write(again, tensors, 3, 0, &r->e), 0);
    assert_int_equal(file_read(path, 1 << 20, &first, &r->e), 0);
    assert_int_equal(file_read(again, 1 << 20, &second, &r->e), 0);
    assert_int_equal(first->size, second->size);
    assert_memory_equal(first->data, second->data, first->size);
    const char *npy = memmem(first->data, first->size, "\x93NUMPY\x01\x00", 8);
    assert_non_null(npy);
    size_t header = (size_t)(uint8_t)npy[8] + 256 * (size_t)(uint8_t)npy[9];
    assert_int_equal((10 + header) % 64, 0);
    assert_non_null(memmem(npy, header, "'shape': (2, 3), }", 18));
    assert_memory_equal(npy + 10 + header, a, sizeof a); /* stored, not compressed */
    assert_non_null(memmem(first->data, first->size, "'shape': (1,), }", 16));
    buf_unref(&first);
    buf_unref(&second);
    snprintf(path, sizeof path, "%s/absent/x.npz", r->root);
    assert_int_equal(npz_write(path, tensors, 3, 0, &r->e), ERR_IO);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_network), CASE(test_prototypes), CASE(test_mixture), CASE(test_nothing_of_the_kind), CASE(test_npz),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
