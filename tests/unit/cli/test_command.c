/* Numbers from the command line, and what is said about options that getopt refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/command.h"
#include "cli/config_options.h"

static const struct option options[] = {
    {"json", no_argument, NULL, 'j'},
    {"step", required_argument, NULL, 's'},
    {NULL, 0, NULL, 0},
};

/* What is said on stderr about a command line of one word, which getopt must refuse. */
static void refusal_of(const char *word, char text[512])
{
    char copy[64], *argv[] = {(char *)"verify", copy, NULL};
    char path[] = "/tmp/decant-command-XXXXXX";
    int said = mkstemp(path), kept = dup(STDERR_FILENO);
    snprintf(copy, sizeof copy, "%s", word);
    assert_true(said >= 0 && kept >= 0);
    optind = 0; /* resets getopt */
    int refused = getopt_long(2, argv, ":h", options, NULL);
    fflush(stderr);
    dup2(said, STDERR_FILENO);
    int code = command_bad_option("verify", options, refused, argv);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    ssize_t size = pread(said, text, 511, 0);
    text[size > 0 ? size : 0] = '\0';
    close(said);
    close(kept);
    unlink(path);
    assert_int_equal(code, COMMAND_USAGE);
}

static void test_refused_options(void **state)
{
    static const struct {
        const char *word, *wanted;
    } cases[] = {
        {"--jsno", "there is no option --jsno; did you mean --json?"},
        {"--stpe=3", "there is no option --stpe=3; did you mean --step?"},
        {"--json=3", "--json takes no value"},
        {"--step", "--step lacks its value"},
        {"--xyzzyplugh", "there is no option --xyzzyplugh\n"},
        {"-x", "there is no option -x"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        refusal_of(cases[i].word, text);
        if (!strstr(text, cases[i].wanted) || !strstr(text, "Try: decant verify --help"))
            fail_msg("%s: %s", cases[i].word, text);
    }
}

static void test_numbers(void **state)
{
    long long n;
    double s;
    (void)state;
    assert_int_equal(command_number("7", 1, 7, &n), 0);
    assert_int_equal(n, 7);
    assert_int_equal(command_number("8", 1, 7, &n), ERR_RANGE);
    assert_int_equal(command_number("", 0, 7, &n), ERR_RANGE);
    assert_int_equal(command_number("7x", 0, 7, &n), ERR_RANGE);
    assert_int_equal(command_seconds("0.5", 0.1, 1, &s), 0);
    assert_true(s == 0.5);
    assert_int_equal(command_seconds("nan", 0.1, 1, &s), ERR_RANGE);
    assert_int_equal(command_seconds("0", 0.1, 1, &s), ERR_RANGE);
    assert_int_equal(command_seconds("1s", 0.1, 1, &s), ERR_RANGE);
}

static void test_config_options(void **state)
{
    struct config_options o = {0};
    struct run_config *c = calloc(1, sizeof *c);
    struct error e = {0};
    (void)state;
    assert_non_null(c);
    assert_int_equal(config_option_take("doctor", 'j', NULL, &o), 0);
    assert_int_equal(config_option_take("doctor", 's', "run.seed=7", &o), -1);
    assert_int_equal(config_options_load(&o, c, &e), 0);
    assert_int_equal(c->run.seed, 7);
    assert_int_equal(config_option_take("doctor", 'c', "/nonexistent.ini", &o), -1);
    assert_int_equal(config_options_load(&o, c, &e), ERR_NOT_FOUND);
    o.set_count = CONFIG_SETS_MAX;
    assert_int_equal(config_option_take("doctor", 's', "run.seed=7", &o), COMMAND_USAGE);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_options),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_config_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
