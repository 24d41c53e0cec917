/* Errors: texts, names, and the assertion. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "common/error.h"

static void test_returns_the_code_without_an_object(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, ERR_IO, "x %d", 1), ERR_IO);
}

static void test_keeps_code_and_text(void **state)
{
    (void)state;
    struct error e = {0};
    assert_int_equal(error_set(&e, ERR_FORMAT, "%s at %d", "flip", 7), ERR_FORMAT);
    assert_int_equal(e.code, ERR_FORMAT);
    assert_string_equal(e.text, "flip at 7");
}

static void test_cuts_long_texts(void **state)
{
    (void)state;
    struct error e;
    error_set(&e, ERR_IO, "%2000d", 1);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
}

static void test_names_are_distinct(void **state)
{
    (void)state;
    for (int a = 0; a >= ERR_CLOSED; a--) {
        assert_string_not_equal(error_name(a), "unknown");
        for (int b = 0; b > a; b--)
            assert_string_not_equal(error_name(a), error_name(b));
    }
    assert_string_equal(error_name(1), "unknown");
    assert_string_equal(error_name(ERR_CLOSED - 1), "unknown");
}

static int exit_status_of_assert(int value)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        fclose(stderr);
        signal(SIGABRT, SIG_DFL);
        ASSERT(value == 1);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_assertion_aborts_in_release(void **state)
{
    (void)state;
    assert_int_equal(exit_status_of_assert(1), 0);
    int status = exit_status_of_assert(2);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_returns_the_code_without_an_object),
        cmocka_unit_test(test_keeps_code_and_text),
        cmocka_unit_test(test_cuts_long_texts),
        cmocka_unit_test(test_names_are_distinct),
        cmocka_unit_test(test_assertion_aborts_in_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
