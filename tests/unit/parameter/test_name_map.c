/* Maps of names: empty and wrong ones first, then what fits and which line decides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "server/parameter/name_map.h"

static void expect_refused(const char *text, const char *said)
{
    struct name_map m;
    struct error e = {0};
    assert_int_not_equal(name_map_parse(text, strlen(text), &m, &e), 0);
    assert_int_equal(m.count, 0);
    if (strstr(e.text, said) == NULL)
        fail_msg("'%s' does not say '%s'", e.text, said);
}

static void expect(const struct name_map *m, const char *ours, const char *theirs)
{
    char name[TENSOR_NAME_MAX];
    bool mapped;
    bool there = name_map_find(m, ours, name, &mapped);
    assert_int_equal(there, theirs != NULL);
    if (theirs)
        assert_string_equal(name, theirs);
}

static void test_wrong_lines(void **state)
{
    (void)state;
    expect_refused("a", "line 1");
    expect_refused("a = b\n\n= c", "line 3");
    expect_refused("a =", "line 1");
    expect_refused("a = b c", "line 1");
    expect_refused("a* = b", "star");
    expect_refused("a = b*", "star");
    char longest[TENSOR_NAME_MAX + 8];
    memset(longest, 'a', sizeof longest);
    memcpy(longest + TENSOR_NAME_MAX, " = b", 5);
    expect_refused(longest, "line 1");
}

static void test_finds(void **state)
{
    static const char text[] = "# ours = theirs\n"
                               "conv1.weight=stem.weight\r\n"
                               "\tblock1.*  =  layers.0.*   # the first\n"
                               "head* = -\n"
                               "head.x = never\n"
                               "bias = -";
    struct name_map m;
    struct error e;
    (void)state;
    assert_int_equal(name_map_parse(text, sizeof text - 1, &m, &e), 0);
    assert_int_equal(m.count, 5);
    expect(&m, "conv1.weight", "stem.weight");
    expect(&m, "conv1.weights", "conv1.weights");
    expect(&m, "block1.mlp.bias", "layers.0.mlp.bias");
    expect(&m, "block10.mlp.bias", "block10.mlp.bias");
    expect(&m, "head.x", NULL);
    expect(&m, "bias", NULL);
    name_map_fini(&m);
    assert_int_equal(name_map_parse("", 0, &m, &e), 0);
    expect(&m, "a", "a");
    name_map_fini(&m);
    assert_int_equal(name_map_parse("* = model.*", 11, &m, &e), 0);
    expect(&m, "a", "model.a");
    char longest[TENSOR_NAME_MAX];
    memset(longest, 'a', sizeof longest);
    longest[TENSOR_NAME_MAX - 1] = '\0';
    expect(&m, longest, NULL); /* no file of ours has a name so long */
    name_map_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wrong_lines), cmocka_unit_test(test_finds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
