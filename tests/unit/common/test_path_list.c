/* Lists of paths in one text: every way to write one, and that joining and splitting undo each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/path_list.h"

static void test_split(void **state)
{
    (void)state;
    char path[32];
    const char *rest = path_list_next("a:/b c:d\\:e\\f:", path, sizeof path);
    assert_string_equal(path, "a");
    rest = path_list_next(rest, path, sizeof path);
    assert_string_equal(path, "/b c");
    rest = path_list_next(rest, path, sizeof path);
    assert_string_equal(path, "d:e\\f");
    rest = path_list_next(rest, path, sizeof path);
    assert_string_equal(path, "");
    assert_null(rest);
    assert_null(path_list_next("", path, sizeof path));
    assert_string_equal(path, "");
    assert_null(path_list_next("\\", path, sizeof path));
    assert_string_equal(path, "\\");
}

static void test_long_paths_are_cut(void **state)
{
    (void)state;
    char path[4];
    assert_string_equal(path_list_next("abcdef:g", path, sizeof path), "g");
    assert_string_equal(path, "abc");
}

static void test_joined_lists_split_again(void **state)
{
    (void)state;
    static const char *const paths[] = {"a", "b:c", "::", "\\x", "d e"};
    char list[64] = "", path[32];
    for (size_t i = 0; i < 5; i++)
        assert_true(path_list_append(list, sizeof list, paths[i]));
    assert_string_equal(list, "a:b\\:c:\\:\\::\\x:d e");
    const char *rest = list;
    for (size_t i = 0; i < 5; i++) {
        rest = path_list_next(rest, path, sizeof path);
        assert_string_equal(path, paths[i]);
    }
    assert_null(rest);
    assert_false(path_list_is_one(list));
    assert_true(path_list_is_one("a\\:b"));
}

static void test_what_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    char list[8] = "abc";
    assert_false(path_list_append(list, sizeof list, "defg"));
    assert_string_equal(list, "abc");
    assert_false(path_list_append(list, sizeof list, ":::"));
    assert_string_equal(list, "abc");
    assert_true(path_list_append(list, sizeof list, "d"));
    assert_string_equal(list, "abc:d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_long_paths_are_cut),
        cmocka_unit_test(test_joined_lists_split_again),
        cmocka_unit_test(test_what_does_not_fit_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
