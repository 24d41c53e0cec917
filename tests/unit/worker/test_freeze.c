/* Which entries of each family are frozen, and what is said when there are not as many stages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "worker/freeze.h"

static void add(struct manifest *m, const char *name, bool buffer)
{
    struct manifest_entry e = {.rank = 1, .shape = {1}, .clip = true, .lr_scale = 1, .momentum = 0.1};
    snprintf(e.name, sizeof e.name, "%s", name);
    assert_int_equal(buffer ? manifest_add_buffer(m, &e) : manifest_add_parameter(m, &e), 0);
}

/* expected: '1' for each parameter, then each buffer, that is frozen. */
static void expect(const char *const *parameters, const char *const *buffers, int64_t stages, const char *expected)
{
    struct manifest m;
    struct error e = {0};
    manifest_init(&m);
    for (; *parameters; parameters++)
        add(&m, *parameters, false);
    for (; *buffers; buffers++)
        add(&m, *buffers, true);
    assert_int_equal(freeze_stages(&m, stages, &e), 0);
    for (size_t i = 0; i < m.parameter_count; i++, expected++) {
        bool frozen = m.parameters[i].lr_scale == 0;
        if (frozen != (*expected == '1') || m.parameters[i].clip == frozen)
            fail_msg("freeze = %d: %s", (int)stages, m.parameters[i].name);
    }
    for (size_t i = 0; i < m.buffer_count; i++, expected++)
        if ((m.buffers[i].momentum == 0) != (*expected == '1'))
            fail_msg("freeze = %d: %s", (int)stages, m.buffers[i].name);
    assert_int_equal(*expected, '\0');
    manifest_fini(&m);
}

static const char *const none[] = {NULL};
static const char *const conv[] = {"conv1.weight", "norm1.weight",        "norm1.bias",      "conv2.weight",
                                   "norm2.weight", "head.linear1.weight", "head.bn1.weight", NULL};
static const char *const vit[] = {"embed.weight",      "embed.cls",         "block1.norm1.weight",
                                  "block1.qkv.weight", "block2.norm1",      "block12.mlp.weight",
                                  "norm.weight",       "head.linear1.bias", NULL};
static const char *const head[] = {"head.bn1.mean", "head.bn1.variance", NULL};
static const char *const running[] = {"stem.mean", "layer1.0.bn1.mean", "layer2.0.bn1.mean", "head.bn1.mean", NULL};

static void test_families(void **state)
{
    (void)state;
    expect(conv, head, 0, "000000000");
    expect(conv, head, 1, "111000000");
    expect(conv, head, 2, "111110000");
    expect(conv, head, -1, "111110000");
    expect(vit, none, 1, "11110000");
    expect(vit, none, 11, "11111000");
    expect(vit, none, 12, "11111100");
    expect(vit, none, -1, "11111110");
    expect(conv, running, 1,
           "1110000"
           "1100");
}

static void test_too_many(void **state)
{
    struct manifest m;
    struct error e = {0};
    (void)state;
    manifest_init(&m);
    add(&m, "conv1.weight", false);
    assert_int_equal(freeze_stages(&m, 2, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "encoder.freeze = 2: this encoder has 1 stages"));
    assert_true(m.parameters[0].lr_scale == 1);
    manifest_fini(&m);
}

/* A term on features that cannot change, be it by -1 or by naming every stage. A head's parameters do not count. */
static void test_features_that_stay(void **state)
{
    static const int64_t stages[] = {0, 1, 2, -1};
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        struct run_config c = {.encoder.freeze = stages[i / 2], .loss.feature_rate = i % 2 ? 0.15 : 0};
        bool idle = i == 5 || i == 7;
        struct manifest m;
        struct error e = {0};
        manifest_init(&m);
        for (const char *const *name = conv; *name; name++)
            add(&m, *name, false);
        assert_int_equal(freeze_of(&m, &c, &e), idle ? ERR_CONFIG : 0);
        assert_true(!idle || strstr(e.text, "loss.feature_rate"));
        manifest_fini(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_families), cmocka_unit_test(test_too_many),
                                       cmocka_unit_test(test_features_that_stay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
