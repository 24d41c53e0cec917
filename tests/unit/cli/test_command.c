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
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct taken {
    char letters[16];
    const char *step;
};

static int take(int option, void *line)
{
    struct taken *t = line;
    t->letters[strlen(t->letters)] = (char)option;
    if (option == 's')
        t->step = optarg;
    return option == 's' && strcmp(optarg, "no") == 0 ? COMMAND_FAILED : -1;
}

static const struct command_options command = {
    .name = "verify", .help = "the help\n", .options = options, .take = take, .arguments_max = 1};

/* The exit code for these words after the name, and what is said on stderr or, as help, on stdout. */
static int take_words(const char *const *words, struct taken *taken, char text[512])
{
    char *argv[8] = {(char *)"verify"}, path[] = "/tmp/decant-command-XXXXXX";
    int argc = 1, said = mkstemp(path), err = dup(STDERR_FILENO), out = dup(STDOUT_FILENO);
    assert_true(said >= 0 && err >= 0 && out >= 0);
    while (words[argc - 1])
        argv[argc] = (char *)words[argc - 1], argc++;
    memset(taken, 0, sizeof *taken);
    optind = 0; /* getopt starts anew */
    fflush(NULL);
    dup2(said, STDERR_FILENO);
    dup2(said, STDOUT_FILENO);
    int code = command_take_options(&command, argc, argv, taken);
    fflush(NULL);
    dup2(err, STDERR_FILENO);
    dup2(out, STDOUT_FILENO);
    ssize_t size = pread(said, text, 511, 0);
    text[size > 0 ? size : 0] = '\0';
    close(said);
    close(err);
    close(out);
    unlink(path);
    return code;
}

static void test_refused_options(void **state)
{
    static const struct {
        const char *words[3], *wanted;
    } cases[] = {
        {{"--jsno"}, "there is no option --jsno; did you mean --json?"},
        {{"--stpe=3"}, "there is no option --stpe=3; did you mean --step?"},
        {{"--json=3"}, "--json takes no value"},
        {{"--step"}, "--step lacks its value"},
        {{"--step", "--json"}, "--step lacks its value: '--json' looks like an option"},
        {{"--step=-x"}, "--step lacks its value: '-x' looks like an option"},
        {{"--xyzzyplugh"}, "there is no option --xyzzyplugh\n"},
        {{"-x"}, "there is no option -x"},
        {{"a", "b"}, "unexpected argument 'b'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512];
        struct taken taken;
        assert_int_equal(take_words(cases[i].words, &taken, text), COMMAND_USAGE);
        if (!strstr(text, cases[i].wanted) || !strstr(text, "Try: decant verify --help"))
            fail_msg("%s: %s", cases[i].words[0], text);
    }
}

static void test_taken_options(void **state)
{
    const char *const words[] = {"--json", "a", "--step", "7", NULL}, *const help[] = {"--json", "--help", "-x", NULL},
                      *const refused[] = {"--step", "no", "--json", NULL};
    char text[512];
    struct taken taken;
    (void)state;
    assert_int_equal(take_words(words, &taken, text), -1);
    assert_string_equal(taken.letters, "js");
    assert_string_equal(taken.step, "7");
    assert_int_equal(optind, 4); /* "a" has moved behind the options */
    assert_int_equal(take_words(help, &taken, text), COMMAND_DONE);
    assert_string_equal(text, "the help\n");
    assert_int_equal(take_words(refused, &taken, text), COMMAND_FAILED);
    assert_string_equal(taken.letters, "s"); /* and no further */
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
    assert_int_equal(config_options_load(&o, c, &e), ERR_CONFIG);
    o.set_count = CONFIG_SETS_MAX;
    assert_int_equal(config_option_take("doctor", 's', "run.seed=7", &o), COMMAND_USAGE);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_options),
        cmocka_unit_test(test_taken_options),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_config_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
