/* "Did you mean": exact, near, too far, and degenerate words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "cli/suggest.h"

static const char *const words[] = {"train", "eval", "status", "prototypes"};
enum { WORDS = sizeof words / sizeof words[0] };

static void test_nothing_to_suggest(void **state)
{
    (void)state;
    assert_null(suggest("", words, WORDS));
    assert_null(suggest("train", words, 0));
    assert_null(suggest("xyzzyplugh", words, WORDS));
    assert_null(suggest("a-word-that-is-longer-than-any-command-could-be", words, WORDS));
}

static void test_edits(void **state)
{
    (void)state;
    assert_string_equal(suggest("train", words, WORDS), "train");
    assert_string_equal(suggest("trian", words, WORDS), "train");  /* swap */
    assert_string_equal(suggest("tain", words, WORDS), "train");   /* missing */
    assert_string_equal(suggest("traain", words, WORDS), "train"); /* double */
    assert_string_equal(suggest("evel", words, WORDS), "eval");    /* wrong */
    assert_string_equal(suggest("prototype", words, WORDS), "prototypes");
}

static void test_nearest_wins(void **state)
{
    (void)state;
    const char *const two[] = {"stats", "state"};
    assert_string_equal(suggest("statf", two, 2), "stats"); /* a tie: the first */
    assert_string_equal(suggest("statee", two, 2), "state");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_suggest),
        cmocka_unit_test(test_edits),
        cmocka_unit_test(test_nearest_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
