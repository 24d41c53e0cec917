/* Steps of a directory; two steps against each other; one step against its promises. */
#include <math.h>
#include "cli/step_check.h"
#include "cli/step_compare.h"
#include "cli/verify_report.h"
#include "tests/unit/cli/checkpoint_rig.h"

static void path_of(const struct rig *r, const char *below, char out[160])
{
    snprintf(out, 160, "%s/%s", r->root, below);
}

static struct step_comparison *compare(struct rig *r, const char *a, const char *b)
{
    char paths[2][160];
    struct step_comparison *c = malloc(sizeof *c);
    assert_non_null(c);
    path_of(r, a, paths[0]);
    path_of(r, b, paths[1]);
    assert_int_equal(step_compare(paths[0], paths[1], c, &r->e), 0);
    c->directory[0] = a;
    c->directory[1] = b;
    return c;
}

static void assert_says(const struct step_comparison *c, const char *what)
{
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    assert_non_null(f);
    verify_print_comparison(c, f);
    fclose(f);
    if (!strstr(text, what))
        fail_msg("'%s' is not in:\n%s", what, text);
}

static void test_steps_of_nothing(void **state)
{
    struct rig *r = *state;
    struct step_list l;
    assert_int_equal(step_list_read("/nonexistent", &l, &r->e), ERR_NOT_FOUND);
    assert_int_equal(step_list_read(r->root, &l, &r->e), ERR_NOT_FOUND);
    assert_non_null(strstr(r->e.text, "no checkpoint here"));
}

static void test_steps(void **state)
{
    struct rig *r = *state;
    struct step_list l;
    char path[160];
    rig_encoder(r, "a", 20, RIG_INI, 3);
    rig_encoder(r, "a", 8, RIG_INI, 3);
    rig_mixture(r, "a", 8, 1);
    path_of(r, "a", path);
    assert_int_equal(step_list_read(path, &l, &r->e), 0);
    assert_true(l.count == 2 && !l.direct && l.items[0].step == 8 && l.items[1].step == 20);
    assert_true(step_entry_complete(&l.items[0]) && !l.items[0].joint);
    assert_false(step_entry_complete(&l.items[1]));
    assert_null(step_list_find(&l, 7));
    step_list_fini(&l);
    rig_encoder(r, "j", 3, RIG_INI_JOINT, 3);
    rig_encoder(r, "j", 9, RIG_INI_JOINT, 3);
    path_of(r, "j", path);
    assert_int_equal(step_list_read(path, &l, &r->e), 0);
    assert_true(l.count == 2 && step_entry_complete(&l.items[0]) && step_entry_complete(&l.items[1]));
    step_list_fini(&l);
    path_of(r, "a/checkpoints/step-000008/", path);
    assert_int_equal(step_list_read(path, &l, &r->e), 0);
    assert_true(l.count == 1 && l.direct && l.items[0].step == 8);
    step_list_fini(&l);
}

static void test_identical(void **state)
{
    struct rig *r = *state;
    for (int i = 0; i < 2; i++) {
        rig_encoder(r, i ? "a" : "b", 8, RIG_INI, 3);
        rig_mixture(r, i ? "a" : "b", 8, 1);
    }
    struct step_comparison *c = compare(r, "a/checkpoints/step-000008", "b/checkpoints/step-000008");
    assert_true(c->identical && c->key_count == 0 && c->step[1] == 8);
    assert_says(c, "\nidentical\n");
    free(c);
}

static void test_joint(void **state)
{
    struct rig *r = *state;
    rig_encoder(r, "a", 8, RIG_INI_JOINT, 3);
    rig_encoder(r, "b", 8, RIG_INI, 3);
    struct step_comparison *c = compare(r, "a/checkpoints/step-000008", "a/checkpoints/step-000008");
    assert_true(c->identical);
    free(c);
    c = compare(r, "b/checkpoints/step-000008", "b/checkpoints/step-000008"); /* its mixture is missing */
    assert_false(c->identical);
    assert_says(c, "mixture.safetensors  B has none");
    free(c);
}

static void test_values_differ(void **state)
{
    struct rig *r = *state;
    rig_encoder(r, "a", 8, RIG_INI, 3);
    rig_encoder(r, "b", 8, RIG_INI "[data]\nlimit = 7\n[net]\nlease_ms = 500\n", nextafterf(3, 4));
    rig_mixture(r, "a", 8, 1);
    rig_mixture(r, "b", 8, 2);
    struct step_comparison *c = compare(r, "a/checkpoints/step-000008", "b/checkpoints/step-000008");
    assert_false(c->identical);
    assert_int_equal(c->key_count, 2);
    assert_string_equal(c->keys[0].name, "data.limit");
    assert_true(c->keys[0].shapes_result && !c->keys[1].shapes_result);
    assert_string_equal(c->files[0].first, "student.a.weight");
    assert_true(c->files[0].values.first == 2 && c->files[0].values.index[0] == 1 && c->files[0].values.ulp == 1);
    assert_int_equal(c->files[0].differing, 3); /* student, teacher, moment; not the configuration, which is a text */
    assert_string_equal(c->files[0].metadata, "config_ini");
    assert_string_equal(c->files[1].first, "mass");
    assert_says(c, "student.a.weight[1, 0] (flat 2): A 3, B 3.00000024, 1 ULP");
    assert_says(c, "configuration  data.limit: A 0, B 7\n");
    json_t *o = verify_comparison_json(c);
    assert_non_null(o);
    const json_t *first = json_object_get(json_array_get(json_object_get(o, "files"), 0), "first");
    assert_int_equal(json_integer_value(json_object_get(first, "flat")), 2);
    json_decref(o);
    free(c);
}

static void test_a_mixture_of_another_step(void **state)
{
    struct rig *r = *state;
    char a[160], b[160], command[400];
    for (int step = 8; step <= 9; step++) {
        rig_encoder(r, "a", step, RIG_INI, 3);
        rig_mixture(r, "a", step, 1);
    }
    rig_step(r, "a", 8, a);
    rig_step(r, "a", 9, b);
    snprintf(command, sizeof command, "cp %s/mixture.safetensors %s", b, a);
    assert_int_equal(system(command), 0);
    struct step_comparison *c = compare(r, "a/checkpoints/step-000008", "a/checkpoints/step-000008");
    assert_false(c->identical); /* byte for byte the same, and wrong on both sides */
    assert_says(c, "is of step 9, the encoder beside it of step 8");
    free(c);
}

static struct step_check check(struct rig *r, const char *run)
{
    struct step_list l;
    struct step_check c;
    char path[160];
    path_of(r, run, path);
    assert_int_equal(step_list_read(path, &l, &r->e), 0);
    step_check(&l.items[0], &c);
    step_list_fini(&l);
    return c;
}

/* Rewrites a file of step 8 with more metadata. */
static void tell(const struct rig *r, const char *run, const char *file, const char *const (*entries)[2], size_t n)
{
    char path[256];
    struct safetensors f;
    struct metadata_entry meta[11] = {
        {.key = "step", .value = "8"}, {.key = "run", .value = "rig"}, {.key = "config", .value = "00000000000c0f19"}};
    snprintf(path, sizeof path, "%s/%s/checkpoints/step-000008/%s", r->root, run, file);
    assert_int_equal(safetensors_read(path, &f, NULL), 0);
    for (size_t i = 0; i < n; i++) {
        snprintf(meta[3 + i].key, sizeof meta[3 + i].key, "%s", entries[i][0]);
        snprintf(meta[3 + i].value, sizeof meta[3 + i].value, "%s", entries[i][1]);
    }
    assert_int_equal(safetensors_write(path, f.tensors, f.tensor_count, meta, 3 + n, NULL), 0);
    safetensors_fini(&f);
}

static void test_what_they_were_computed_by(void **state)
{
    struct rig *r = *state;
    static const char *const a[][2] = {
        {"data", "00000000000001"}, {"numerics", "00000000000002"}, {"server_numerics", "00000000000003"}};
    static const char *const b[][2] = {
        {"data", "0000000000000a"},        {"data_before", "00000000000001"},    {"data_since", "5"},
        {"numerics", "0000000000000b"},    {"numerics_other", "0000000000000c"}, {"server_numerics", "00000000000003"},
        {"server_other", "0000000000000d"}};
    static const char *const mixture[2][1][2] = {{{"server_numerics", "00000000000004"}},
                                                 {{"server_numerics", "0000000000000e"}}};
    for (int i = 0; i < 2; i++) {
        rig_encoder(r, i ? "b" : "a", 8, RIG_INI, i ? 3 : 4);
        rig_mixture(r, i ? "b" : "a", 8, 1);
        tell(r, i ? "b" : "a", "mixture.safetensors", mixture[i], 1);
    }
    tell(r, "a", "encoder.safetensors", a, 3);
    tell(r, "b", "encoder.safetensors", b, 7);
    struct step_comparison *c = compare(r, "a/checkpoints/step-000008", "b/checkpoints/step-000008");
    assert_says(c, "\ndata           A 00000000000001, B 0000000000000a: other images\n");
    assert_says(c, "\nnumerics       A 00000000000002, B 0000000000000b: other kernels");
    assert_says(c, "\nprototype      A 00000000000004, B 0000000000000e: other kernels");
    assert_says(c, "\ndata           B went on with other images at step 5: 0000000000000a, before 00000000000001");
    assert_says(c, "\nnumerics       B had workers that round differently: 0000000000000b and 0000000000000c");
    assert_says(c, "\nnumerics       B had servers that round differently: 00000000000003, before 0000000000000d");
    json_t *o = verify_comparison_json(c);
    const json_t *p = json_object_get(json_array_get(json_object_get(o, "files"), 0), "provenance");
    assert_string_equal(json_string_value(json_object_get(json_array_get(p, 0), "data")), "00000000000001");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(p, 1), "data_since")), 5);
    json_decref(o);
    free(c);
}

/* Older files do not say: no cause is made up, and what only one of them has is still named. */
static void test_computed_by_whom_is_not_known(void **state)
{
    struct rig *r = *state;
    static const char *const told[][2] = {{"data", "00000000000001"}, {"numerics", "00000000000002"}};
    for (int i = 0; i < 2; i++) {
        rig_encoder(r, i ? "b" : "a", 8, RIG_INI, 3);
        rig_mixture(r, i ? "b" : "a", 8, 1);
    }
    tell(r, "b", "encoder.safetensors", told, 2);
    struct step_comparison *c = compare(r, "a/checkpoints/step-000008", "b/checkpoints/step-000008");
    assert_false(c->identical);
    assert_says(c, "every tensor is equal, but metadata 'data' is not");
    assert_int_equal(c->files[0].provenance[0].data, 0);
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    verify_print_comparison(c, f);
    fclose(f);
    assert_null(strstr(text, "other images"));
    free(c);
}

/* Both files are of one run; which of two admitted workers came first may differ between the servers. */
static void test_files_of_other_images(void **state)
{
    struct rig *r = *state;
    static const char *const told[3][2][2] = {{{"data", "00000000000001"}, {"numerics", "00000000000001"}},
                                              {{"data", "00000000000001"}, {"numerics", "00000000000002"}},
                                              {{"data", "00000000000002"}, {"numerics", "00000000000001"}}};
    rig_encoder(r, "a", 8, RIG_INI, 3);
    rig_mixture(r, "a", 8, 1);
    tell(r, "a", "encoder.safetensors", told[0], 2);
    tell(r, "a", "mixture.safetensors", told[1], 2);
    struct step_check c = check(r, "a");
    assert_int_equal(c.problem_count, 0);
    assert_int_equal(c.provenance.data, 1);
    tell(r, "a", "mixture.safetensors", told[2], 2);
    c = check(r, "a");
    assert_int_equal(c.problem_count, 1);
    assert_non_null(strstr(c.problems[0].text, "metadata 'data'"));
}

static void test_damage_and_steps(void **state)
{
    struct rig *r = *state;
    for (int step = 8; step <= 9; step++) {
        rig_encoder(r, "a", step, RIG_INI, 3);
        rig_mixture(r, "a", step, 1);
    }
    struct step_comparison *c = compare(r, "a/checkpoints/step-000008", "a/checkpoints/step-000009");
    assert_false(c->identical); /* the same numbers, but not the same step */
    assert_says(c, "step           A 8, B 9");
    assert_says(c, "every tensor is equal, but metadata 'step' is not");
    free(c);
    rig_damage(r, "a", 9, "mixture.safetensors");
    c = compare(r, "a/checkpoints/step-000008", "a/checkpoints/step-000009");
    assert_int_equal(c->files[1].state[1], FILE_DAMAGED);
    assert_says(c, "mixture.safetensors  damaged in B");
    free(c);
}

/* ---- one step ---- */

static void test_sound(void **state)
{
    struct rig *r = *state;
    rig_encoder(r, "a", 8, RIG_INI, 3);
    rig_mixture(r, "a", 8, 1);
    assert_int_equal(check(r, "a").problem_count, 0);
    rig_encoder(r, "j", 8, RIG_INI_JOINT, 3);
    assert_int_equal(check(r, "j").problem_count, 0);
}

static void test_unsound(void **state)
{
    struct rig *r = *state;
    rig_encoder(r, "missing", 8, RIG_INI, 3);
    struct step_check c = check(r, "missing");
    assert_int_equal(c.problem_count, 1);
    assert_string_equal(c.problems[0].text, "mixture.safetensors: is missing");
    rig_encoder(r, "infinite", 8, RIG_INI, INFINITY);
    rig_mixture(r, "infinite", 8, NAN);
    c = check(r, "infinite");
    assert_int_equal(c.problem_count, 2);
    assert_non_null(strstr(c.problems[0].text, "'student.a.weight' holds a value that is not finite"));
    rig_encoder(r, "damaged", 8, RIG_INI, 3);
    rig_mixture(r, "damaged", 8, 1);
    rig_damage(r, "damaged", 8, "encoder.safetensors");
    c = check(r, "damaged");
    assert_int_equal(c.problem_count, 1);
    assert_int_equal(strncmp(c.problems[0].text, "encoder.safetensors: checksum is ", 33), 0);
}

static void test_not_of_one_step(void **state)
{
    struct rig *r = *state;
    char a[160], b[160], command[400];
    rig_encoder(r, "a", 8, RIG_INI, 3);
    rig_mixture(r, "a", 9, 1);
    rig_step(r, "a", 8, a);
    rig_step(r, "a", 9, b);
    snprintf(command, sizeof command, "mv %s/mixture.safetensors %s", b, a);
    assert_int_equal(system(command), 0);
    struct step_check c = check(r, "a");
    assert_int_equal(c.problem_count, 2);
    assert_string_equal(c.problems[0].text, "mixture.safetensors: says step 9, its directory 8");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_steps_of_nothing),
        CASE(test_steps),
        CASE(test_identical),
        CASE(test_joint),
        CASE(test_values_differ),
        CASE(test_what_they_were_computed_by),
        CASE(test_computed_by_whom_is_not_known),
        CASE(test_files_of_other_images),
        CASE(test_a_mixture_of_another_step),
        CASE(test_damage_and_steps),
        CASE(test_sound),
        CASE(test_unsound),
        CASE(test_not_of_one_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
