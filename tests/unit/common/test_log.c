/* Log lines, read back through a pipe that stands for stderr. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>
#include "common/error.h"
#include "common/log.h"

static int saved_stderr, reader;

static int redirect(void **state)
{
    (void)state;
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    saved_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    reader = ends[0];
    return 0;
}

static int restore(void **state)
{
    (void)state;
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    close(reader);
    return 0;
}

/* Everything logged since; a marker makes the read end even when nothing was. */
static size_t logged(char *out, size_t size)
{
    assert_int_equal(write(STDERR_FILENO, "@", 1), 1);
    ssize_t n = read(reader, out, size);
    assert_true(n > 0 && out[n - 1] == '@');
    out[n > 0 ? n - 1 : 0] = '\0';
    return (size_t)n - 1;
}

static void test_one_line_per_event(void **state)
{
    (void)state;
    char out[4096];
    log_init("parameter", LOG_INFO);
    log_info("event=%s step=%d", "step_done", 120);
    size_t n = logged(out, sizeof out);
    int year, length = 0;
    assert_int_equal(sscanf(out, "%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ info%n", &year, &length), 1);
    assert_int_equal(length, 29);
    assert_true(year >= 2024);
    assert_string_equal(out + length, " parameter event=step_done step=120\n");
    assert_ptr_equal(strchr(out, '\n'), out + n - 1);
}

static void test_level_filters(void **state)
{
    (void)state;
    char out[4096];
    log_init("worker", LOG_WARN);
    log_debug("a=1");
    log_info("a=2");
    assert_int_equal(logged(out, sizeof out), 0);
    log_warn("a=3");
    log_error("a=4");
    logged(out, sizeof out);
    assert_non_null(strstr(out, " warn worker a=3\n"));
    assert_non_null(strstr(out, " error worker a=4\n"));
}

static void test_control_characters_cannot_forge_a_line(void **state)
{
    (void)state;
    char out[4096];
    log_init("cli", LOG_INFO);
    log_info("peer=%s", "a\nb\033[2J");
    logged(out, sizeof out);
    assert_non_null(strstr(out, " cli peer=\"a b [2J\"\n"));
}

/* What came from outside stays one value. */
static void test_texts_cannot_forge_a_key(void **state)
{
    (void)state;
    static const struct {
        const char *text, *bare, *quoted;
    } cases[] = {
        {"plain", "plain", "plain"},
        {"", "\"\"", ""},
        {"two words", "\"two words\"", "two words"},
        {"a\" event=forged b=\"", "\"a\\\" event=forged b=\\\"\"", "a\\\" event=forged b=\\\""},
        {"back\\", "\"back\\\\\"", "back\\\\"},
        {"a=1", "\"a=1\"", "a=1"},
        {"a\nb", "\"a b\"", "a b"},
        {"100%s%n", "100%s%n", "100%s%n"},
    };
    char out[4096], wanted[200];
    log_init("cli", LOG_INFO);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        log_info("bare=%s quoted=\"it is %s here\" n=%d", cases[i].text, cases[i].text, 7);
        logged(out, sizeof out);
        snprintf(wanted, sizeof wanted, " cli bare=%s quoted=\"it is %s here\" n=7\n", cases[i].bare, cases[i].quoted);
        assert_non_null(strstr(out, wanted));
    }
}

/* As printf would write them. */
static void make(char *out, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_format(out, size, format, args);
    va_end(args);
}

static void test_ready_lines_are_written_as_they_are(void **state)
{
    (void)state;
    char text[40], out[512];
    make(text, sizeof text, "event=refused text=\"%s\"", "a \" b");
    assert_string_equal(text, "event=refused text=\"a \\\" b\"");
    log_ready(LOG_ERROR, text);
    logged(out, sizeof out);
    assert_non_null(strstr(out, " event=refused text=\"a \\\" b\"\n"));
    make(text, 8, "event=%s", "long");
    assert_string_equal(text, "even...");
}

static void test_numbers_keep_their_form(void **state)
{
    (void)state;
    char out[4096], wanted[400];
    log_init("cli", LOG_INFO);
#define FORMAT                                                                                                         \
    "a=%d b=%5u c=%-4dx d=%04o e=%016" PRIx64                                                                          \
    " f=%zu g=%.4g h=%5.2f i=%c j=%% k=%*d l=%.*f m=%lld n=%hd o=\"%.3s\" p=%.*s"
    log_info(FORMAT, -3, 7u, 9, 0755u, (uint64_t)0xabcdef, (size_t)12, 3.14159, 2.5, 'z', 6, 42, 1, 0.25, -5LL,
             (short)-2, "abcdef", 2, "xyz");
    snprintf(wanted, sizeof wanted, " cli " FORMAT "\n", -3, 7u, 9, 0755u, (uint64_t)0xabcdef, (size_t)12, 3.14159, 2.5,
             'z', 6, 42, 1, 0.25, -5LL, (short)-2, "abcdef", 2, "xyz");
    logged(out, sizeof out);
    assert_non_null(strstr(out, wanted));
}

static void test_long_lines_are_cut_and_marked(void **state)
{
    (void)state;
    char out[8192];
    log_init("cli", LOG_INFO);
    char text[5000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_info("text=%s", text);
    size_t n = logged(out, sizeof out);
    assert_int_equal(n, 2048);
    assert_string_equal(out + n - 4, "...\n");
}

static void test_parses_levels(void **state)
{
    (void)state;
    enum log_level level = LOG_ERROR;
    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse("", &level), ERR_RANGE);
    assert_int_equal(log_level_parse("INFO", &level), ERR_RANGE);
    assert_int_equal(level, LOG_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_line_per_event, redirect, restore),
        cmocka_unit_test_setup_teardown(test_level_filters, redirect, restore),
        cmocka_unit_test_setup_teardown(test_control_characters_cannot_forge_a_line, redirect, restore),
        cmocka_unit_test_setup_teardown(test_texts_cannot_forge_a_key, redirect, restore),
        cmocka_unit_test_setup_teardown(test_numbers_keep_their_form, redirect, restore),
        cmocka_unit_test_setup_teardown(test_long_lines_are_cut_and_marked, redirect, restore),
        cmocka_unit_test_setup_teardown(test_ready_lines_are_written_as_they_are, redirect, restore),
        cmocka_unit_test(test_parses_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
