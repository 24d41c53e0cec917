/* What is printed to be pasted: as the shell reads it back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "cli/shell_quote.h"

static void test_plain_words_stay(void **state)
{
    char out[64];
    (void)state;
    assert_string_equal(shell_quote("runs/first-1", out, sizeof out), "runs/first-1");
    assert_string_equal(shell_quote("/a_b/c.d:5701", out, sizeof out), "/a_b/c.d:5701");
}

static void test_a_shell_reads_back_what_was_meant(void **state)
{
    static const char *const texts[] = {"my run", "it's", "$HOME `id` \"x\" \\", "a\nb", "*",
                                        "~",      "",     "a;b&c|d<e>f(g)#"};
    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char quoted[128], command[192], back[64] = "";
        snprintf(command, sizeof command, "printf %%s %s", shell_quote(texts[i], quoted, sizeof quoted));
        FILE *f = popen(command, "r");
        assert_non_null(f);
        back[fread(back, 1, sizeof back - 1, f)] = '\0';
        assert_int_equal(pclose(f), 0);
        assert_string_equal(back, texts[i]);
    }
}

static void test_what_does_not_fit_leaves_the_quotes_closed(void **state)
{
    char out[8];
    (void)state;
    assert_string_equal(shell_quote("abc def ghi", out, sizeof out), "'abc d'");
    assert_string_equal(shell_quote("abcd'e", out, sizeof out), "'abcd'");
    assert_string_equal(shell_quote("abcdefghij", out, sizeof out), "'abcde'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_words_stay),
        cmocka_unit_test(test_a_shell_reads_back_what_was_meant),
        cmocka_unit_test(test_what_does_not_fit_leaves_the_quotes_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
