/* What reaches the terminal of a text from elsewhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "cli/printable.h"

static void test_nothing_steers_the_terminal(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", ""},
        {"run-1: 60 %", "run-1: 60 %"},
        {"\x1b]0;title\a\x1b[2J", "?]0;title??[2J"},
        {"a\r\n\tb\x7f", "a???b?"},
        {"caf\xc3\xa9 \xc2\xb5s \xe2\x82\xac", "caf\xc3\xa9 \xc2\xb5s \xe2\x82\xac"},
        {"\xc2\x9b"
         "31m\xc2",
         "??31m\xc2"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", cases[i].text);
        assert_string_equal(printable(text), cases[i].wanted);
    }
}

static void test_columns(void **state)
{
    char text[32];
    (void)state;
    snprintf(text, sizeof text, "%-*s|", printable_width("d\xc3\xb6g", 5), "d\xc3\xb6g");
    assert_string_equal(text, "d\xc3\xb6g  |");
    assert_int_equal(printable_width("dog", 5), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_steers_the_terminal),
                                       cmocka_unit_test(test_columns)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
