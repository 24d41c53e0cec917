/* The manifest: limits, canonical JSON, and a reader that takes nothing on trust. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "proto/manifest.h"

static struct manifest_entry entry(const char *name, uint64_t rows, uint64_t columns)
{
    struct manifest_entry e = {.rank = columns ? 2 : 1, .shape = {rows, columns}, .lr_scale = 1};
    snprintf(e.name, sizeof e.name, "%s", name);
    return e;
}

static void example(struct manifest *m)
{
    struct manifest_entry weight = entry("conv1.weight", 24, 9), bias = entry("bias", 7, 0);
    struct manifest_entry mean = entry("head.bn1.mean", 256, 0);
    weight.decay = weight.clip = true;
    bias.lr_scale = 0.1;
    bias.unit_rows = true;
    mean.momentum = 0.1;
    mean.lr_scale = 0;
    manifest_init(m);
    assert_int_equal(manifest_add_parameter(m, &weight), 0);
    assert_int_equal(manifest_add_parameter(m, &bias), 0);
    assert_int_equal(manifest_add_buffer(m, &mean), 0);
}

static void test_empty_manifest(void **state)
{
    (void)state;
    struct manifest m, back;
    struct buf *json = NULL;
    manifest_init(&m);
    assert_int_equal(manifest_to_json(&m, &json), 0);
    assert_int_equal(json->size, strlen("{\"parameters\":[],\"buffers\":[]}"));
    assert_int_equal(manifest_from_json(json->data, json->size, &back, NULL), 0);
    assert_true(manifest_equal(&m, &back));
    buf_unref(&json);
    manifest_fini(&back);
}

static void test_offsets_and_canonical_json(void **state)
{
    (void)state;
    struct manifest m, back, copy;
    struct buf *json = NULL, *again = NULL;
    example(&m);
    assert_int_equal(m.parameters[1].offset, 216);
    assert_int_equal(m.parameter_floats, 223);
    assert_int_equal(m.buffer_floats, 256);
    assert_int_equal(manifest_to_json(&m, &json), 0);
    static const char expected[] =
        "{\"parameters\":[{\"name\":\"conv1.weight\",\"shape\":[24,9],\"decay\":true,\"clip\":true,\"unit_rows\":false,"
        "\"lr_scale\":1.0},{\"name\":\"bias\",\"shape\":[7],\"decay\":false,\"clip\":false,\"unit_rows\":true,"
        "\"lr_scale\":0.10000000000000001}],"
        "\"buffers\":[{\"name\":\"head.bn1.mean\",\"shape\":[256],\"momentum\":0.10000000000000001}]}";
    assert_int_equal(json->size, sizeof expected - 1);
    assert_memory_equal(json->data, expected, sizeof expected - 1);
    assert_int_equal(manifest_from_json(json->data, json->size, &back, NULL), 0);
    assert_true(manifest_equal(&m, &back));
    assert_int_equal(manifest_to_json(&back, &again), 0);
    assert_memory_equal(again->data, json->data, json->size);
    assert_int_equal(manifest_copy(&copy, &m), 0);
    assert_true(manifest_equal(&copy, &m));
    copy.parameters[0].decay = false;
    assert_false(manifest_equal(&copy, &m));
    buf_unref(&json);
    buf_unref(&again);
    manifest_fini(&m);
    manifest_fini(&back);
    manifest_fini(&copy);
}

static void test_additions_have_limits(void **state)
{
    (void)state;
    struct manifest m;
    struct manifest_entry e = entry("a", 3, 4);
    manifest_init(&m);
    assert_int_equal(manifest_add_parameter(&m, &e), 0);
    assert_int_equal(manifest_add_parameter(&m, &e), ERR_RANGE); /* the name is taken */
    assert_int_equal(manifest_add_buffer(&m, &e), 0);            /* but not among buffers */
    e = entry("zero", 0, 4);
    assert_int_equal(manifest_add_parameter(&m, &e), ERR_RANGE);
    e = entry("", 1, 4);
    assert_int_equal(manifest_add_parameter(&m, &e), ERR_RANGE);
    e = entry("huge", UINT64_C(1) << 31, 2);
    assert_int_equal(manifest_add_parameter(&m, &e), ERR_RANGE);
    e = entry("wraps", UINT64_C(1) << 63, 2);
    assert_int_equal(manifest_add_parameter(&m, &e), ERR_RANGE);
    e = entry("all", UINT64_C(1) << 31, 0);
    assert_int_equal(manifest_add_parameter(&m, &e), ERR_RANGE); /* the sum is over the limit */
    assert_int_equal(m.parameter_count, 1);
    for (int i = 1; i <= MANIFEST_ENTRIES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        e = entry(name, 1, 0);
        assert_int_equal(manifest_add_parameter(&m, &e), i < MANIFEST_ENTRIES_MAX ? 0 : ERR_RANGE);
    }
    manifest_fini(&m);
}

static void test_foreign_json_is_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "",
        "[]",
        "nonsense",
        "{}",
        "{\"parameters\":[]}",
        "{\"parameters\":{},\"buffers\":[]}",
        "{\"parameters\":[],\"buffers\":[],\"more\":1}",
        "{\"parameters\":[],\"parameters\":[],\"buffers\":[]}",
        "{\"parameters\":[7],\"buffers\":[]}",
        /* a flag is missing, is unknown, is no flag */
        "{\"parameters\":[{\"name\":\"a\",\"shape\":[1],\"decay\":true,\"clip\":true,\"lr_scale\":1}],\"buffers\":[]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[1],\"momentum\":0.1,\"new\":true}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[1],\"momentum\":true}]}",
        /* values */
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[1],\"momentum\":1.5}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[0],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[-1],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[1.5],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":{},\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[1,1,1,1,1],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"\",\"shape\":[1],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\\nb\",\"shape\":[1],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[4294967296,4294967296],\"momentum\":0.1}]}",
        "{\"parameters\":[],\"buffers\":[{\"name\":\"a\",\"shape\":[1],\"momentum\":0.1},"
        "{\"name\":\"a\",\"shape\":[1],\"momentum\":0.1}]}",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct manifest m;
        struct error e = {0};
        if (manifest_from_json(refused[i], strlen(refused[i]), &m, &e) != ERR_FORMAT)
            fail_msg("taken: %s", refused[i]);
        assert_int_equal(m.parameter_count + m.buffer_count, 0);
        assert_true(strlen(e.text) > 0);
    }
}

static void test_text_over_the_limit(void **state)
{
    (void)state;
    struct manifest m;
    struct buf *spaces = buf_new((1 << 20) + 1);
    memset(spaces->data, ' ', spaces->size);
    assert_int_equal(manifest_from_json(spaces->data, spaces->size, &m, NULL), ERR_FORMAT);
    buf_unref(&spaces);
}

/* Names become keys of files and members of archives: nothing that means something in a path is let in. */
static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"w", "layer1.0.conv1.weight", "blocks.3.attn.in_proj_weight", "a-b_c.D", "_x",
                                       "7"};
    static const char *const bad[] = {"../../x", "..",  ".",   "",   "a/b",  "/a",   "a..b",     ".a",   "a.",   "a b",
                                      "a\\b",    "a:b", "a%n", "-a", "a\"b", "\x7f", "\xc3\xa9", "a\tb", "$(x)", "~"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct manifest m;
        struct manifest_entry e = entry(good[i], 1, 0);
        manifest_init(&m);
        if (manifest_add_parameter(&m, &e) != 0)
            fail_msg("'%s' was refused", good[i]);
        manifest_fini(&m);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct manifest m;
        struct manifest_entry e = entry(bad[i], 1, 0);
        manifest_init(&m);
        if (manifest_add_parameter(&m, &e) != ERR_RANGE || manifest_add_buffer(&m, &e) != ERR_RANGE)
            fail_msg("'%s' was taken", bad[i]);
    }
    static const char json[] =
        "{\"parameters\":[],\"buffers\":[{\"name\":\"../../x\",\"shape\":[1],\"momentum\":0.1}]}";
    struct manifest m;
    struct error e = {0};
    assert_int_equal(manifest_from_json(json, sizeof json - 1, &m, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "its name"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_empty_manifest),
        cmocka_unit_test(test_offsets_and_canonical_json),
        cmocka_unit_test(test_additions_have_limits),
        cmocka_unit_test(test_foreign_json_is_refused),
        cmocka_unit_test(test_text_over_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
