/* The scripts hold every command, and quote what their shell would read otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "cli/completion.h"

static const struct completion_command commands[] = {{"train", "it's a: summary"}, {"top", "another"}};

static void write_script(void (*shell)(const struct completion_command *, size_t, FILE *), char *out, size_t size)
{
    memset(out, 0, size);
    FILE *f = fmemopen(out, size, "w");
    assert_non_null(f);
    shell(commands, 2, f);
    fclose(f);
}

static void test_bash(void **state)
{
    (void)state;
    char text[8192];
    write_script(completion_bash, text, sizeof text);
    assert_non_null(strstr(text, "words='train top'\n"));
    assert_non_null(strstr(text, "complete -o default -F _decant decant\n"));
}

static void test_zsh(void **state)
{
    (void)state;
    char text[8192];
    write_script(completion_zsh, text, sizeof text);
    assert_int_equal(strncmp(text, "#compdef decant\n", 16), 0);
    assert_non_null(strstr(text, "'train:it'\\''s a: summary'\n"));
    assert_non_null(strstr(text, "'top:another'\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bash), cmocka_unit_test(test_zsh)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
