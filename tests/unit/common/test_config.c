/* Configuration: every kind of value, every source, and every way to get it wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <stdbool.h>
#include "common/config.h"
#include "tests/unit/common/scratch.h"

struct target {
    int64_t slots, steps;
    double lr;
    bool mirror;
    char name[16];
    int model;
    char place[1024], secret[32];
    struct config_floats shares;
    char places[64];
};

static const struct config_key keys[] = {
    {"run.slots", CONFIG_INT, offsetof(struct target, slots), 8, "4", 1, 1024, NULL, "slots of a step"},
    {"optimiser.lr", CONFIG_FLOAT, offsetof(struct target, lr), 8, "2e-3", 0, 100, NULL, "learning rate"},
    {"run.name", CONFIG_STRING, offsetof(struct target, name), 16, "default", 0, 0, NULL, "name"},
    {"redis.enabled", CONFIG_BOOL, offsetof(struct target, mirror), 1, "false", 0, 0, NULL, "mirror"},
    {"encoder.model", CONFIG_CHOICE, offsetof(struct target, model), 4, "conv", 0, 0, "conv|vit", "family"},
    {"run.log_every", CONFIG_INT, offsetof(struct target, steps), 8, "10", -5, 9e15, NULL, "steps"},
    {"data.path", CONFIG_PATH, offsetof(struct target, place), 1024, "", 0, 0, NULL, "where"},
    {"redis.password", CONFIG_SECRET, offsetof(struct target, secret), 32, "", 0, 0, NULL, "secret"},
    {"data.shares", CONFIG_FLOATS, offsetof(struct target, shares), sizeof(struct config_floats), "0.25,1", 0, 1, NULL,
     "shares"},
    {"data.places", CONFIG_PATHS, offsetof(struct target, places), 64, "", 0, 0, NULL, "where else"},
};
enum { KEYS = sizeof keys / sizeof keys[0] };

static struct target fresh(void)
{
    struct target t;
    memset(&t, 0, sizeof t);
    config_defaults(keys, KEYS, &t);
    return t;
}

static int assign(struct target *t, const char *assignment, struct error *e)
{
    return config_assign(keys, KEYS, t, assignment, "--set", e);
}

static void assert_mentions(const struct error *e, const char *part)
{
    if (strstr(e->text, part) == NULL)
        fail_msg("'%s' does not mention '%s'", e->text, part);
}

static void test_defaults_are_applied(void **state)
{
    (void)state;
    struct target t = fresh();
    assert_int_equal(t.slots, 4);
    assert_true(t.lr == 2e-3);
    assert_string_equal(t.name, "default");
    assert_false(t.mirror);
    assert_int_equal(t.model, 0);
}

static void test_assigns_every_type(void **state)
{
    (void)state;
    struct target t = fresh();
    assert_int_equal(assign(&t, "run.slots=1024", NULL), 0);
    assert_int_equal(assign(&t, "run.log_every=-5", NULL), 0);
    assert_int_equal(assign(&t, "optimiser.lr=1e-4", NULL), 0);
    assert_int_equal(assign(&t, "run.name=a=b", NULL), 0);
    assert_int_equal(assign(&t, "redis.enabled=yes", NULL), 0);
    assert_int_equal(assign(&t, "encoder.model=vit", NULL), 0);
    assert_int_equal(t.slots, 1024);
    assert_int_equal(t.steps, -5);
    assert_true(t.lr == 1e-4);
    assert_string_equal(t.name, "a=b");
    assert_true(t.mirror);
    assert_int_equal(t.model, 1);
    assert_int_equal(assign(&t, "run.name=", NULL), 0);
    assert_string_equal(t.name, "");
}

static void test_lists_of_paths_become_absolute(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"a:/b:./c:.", "/home/x", "/home/x/a:/b:/home/x/c:/home/x"},
        {"a\\:b:c", "/y:z", "/y\\:z/a\\:b:/y\\:z/c"},
        {"one", "/home/x", "/home/x/one"},
        {"", "/home/x", ""},
    };
    struct error e = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct target t = fresh();
        strcpy(t.places, cases[i][0]);
        assert_int_equal(config_resolve_paths(keys, KEYS, &t, cases[i][1], &e), 0);
        assert_string_equal(t.places, cases[i][2]);
    }
    struct target t = fresh();
    strcpy(t.places, "0123456789:0123456789:0123456789");
    assert_int_equal(config_resolve_paths(keys, KEYS, &t, "/home/long/enough", &e), ERR_CONFIG);
    assert_mentions(&e, "data.places");
}

static void test_lists_of_numbers(void **state)
{
    (void)state;
    struct target t = fresh();
    char out[80];
    assert_int_equal(t.shares.count, 2);
    assert_true(t.shares.values[0] == 0.25 && t.shares.values[1] == 1 && t.shares.values[2] == 0);
    assert_int_equal(assign(&t, "data.shares=0.5", NULL), 0);
    assert_true(t.shares.count == 1 && t.shares.values[0] == 0.5 && t.shares.values[1] == 0);
    assert_int_equal(assign(&t, "data.shares=0.10,1e-1,.3,1.0", NULL), 0);
    config_value(&keys[KEYS - 2], &t, out, sizeof out);
    assert_string_equal(out, "0.1,0.1,0.3,1");
}

static void test_bad_values_change_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "run.slots=0",
        "run.slots=1025",
        "run.slots=4x",
        "run.slots=",
        "run.slots= 4",
        "run.slots=4.0",
        "run.slots=1e2",
        "run.slots=99999999999999999999",
        "optimiser.lr=nan",
        "optimiser.lr=inf",
        "optimiser.lr=-1",
        "optimiser.lr=0.1f",
        "optimiser.lr=",
        "optimiser.lr= 1",
        "data.places=:a",
        "data.places=a:",
        "data.places=a::b",
        "data.shares=",
        "data.shares=,",
        "data.shares=0.1,",
        "data.shares=0.1,,0.2",
        "data.shares=0.1, 0.2",
        "data.shares=0.1;0.2",
        "data.shares=0.1,2",
        "data.shares=0.1,nan",
        "data.shares=1,1,1,1,1",
        "data.shares=0.0000000000000000000000000000000000000000000000000000000000000000001",
        "redis.enabled=2",
        "redis.enabled=",
        "redis.enabled=True1",
        "encoder.model=con",
        "encoder.model=",
        "encoder.model=conv|vit",
        "run.name=1234567890123456",
        "run.name=a\nb",
        "run.name=a #b",
        "run.name=;a",
        "run.name= a",
        "run.name=a ",
    };
    const struct target before = fresh();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct target t = fresh();
        struct error e = {0};
        if (assign(&t, bad[i], &e) != ERR_CONFIG)
            fail_msg("'%s' was accepted", bad[i]);
        assert_memory_equal(&t, &before, sizeof t);
        assert_mentions(&e, "--set: ");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(bad[i], "="), bad[i]);
        assert_mentions(&e, name);
    }
}

static void test_range_is_in_the_message(void **state)
{
    (void)state;
    struct target t = fresh();
    struct error e;
    assert_int_equal(assign(&t, "run.slots=5000", &e), ERR_CONFIG);
    assert_string_equal(e.text, "--set: run.slots = 5000 is out of range, 1 to 1024 is allowed");
    assign(&t, "encoder.model=cnn", &e);
    assert_mentions(&e, "conv|vit");
}

static void test_unknown_keys_suggest_the_nearest(void **state)
{
    (void)state;
    struct target t = fresh();
    struct error e;
    assert_int_equal(assign(&t, "run.slot=5", &e), ERR_CONFIG);
    assert_string_equal(e.text, "--set: unknown key 'run.slot'; did you mean run.slots?");
    assert_int_equal(assign(&t, "foo=1", &e), ERR_CONFIG);
    assert_null(strstr(e.text, "did you mean"));
    assert_int_equal(assign(&t, "run.lr=5", &e), ERR_CONFIG);
    assert_mentions(&e, "did you mean optimiser.lr?");
    assert_int_equal(assign(&t, "optimizer.lr=5", &e), ERR_CONFIG);
    assert_mentions(&e, "did you mean optimiser.lr?");
    assert_int_equal(assign(&t, "Run.SLOTS=5", &e), ERR_CONFIG);
    assert_mentions(&e, "did you mean run.slots?");
    assert_int_equal(assign(&t, "run.slo=5", &e), ERR_CONFIG); /* cut short */
    assert_mentions(&e, "did you mean run.slots?");
    assert_int_equal(assign(&t, "slots=5", &e), ERR_CONFIG);
    assert_mentions(&e, "did you mean run.slots?");
    assert_int_equal(assign(&t, "Data.Path=5", &e), ERR_CONFIG);
    assert_mentions(&e, "did you mean data.path?");
    assert_int_equal(assign(&t, "slots=5", &e), ERR_CONFIG);
    assert_mentions(&e, "did you mean run.slots?");
    static const char *const foreign[] = {"optimiser.nesterov=true", "optimiser.wd=1", "optimiser.x=1", "data.name=x"};
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        assert_int_equal(assign(&t, foreign[i], &e), ERR_CONFIG);
        if (i < 3 && strstr(e.text, "did you mean") != NULL)
            fail_msg("%s: %s", foreign[i], e.text);
    }
    assert_mentions(&e, "did you mean run.name?");
}

/* Some letters in common are no likeness: a wrong suggestion is worse than none. */
static void test_unknown_keys_suggest_nothing_far(void **state)
{
    static const char *const typed[] = {"run.batch=5", "optimiser.nesterov=true", "run.plots.x=1",
                                        "slot_size=5", "encoder.depth=1",         "a.b=1"};
    (void)state;
    struct target t = fresh();
    for (size_t i = 0; i < sizeof typed / sizeof typed[0]; i++) {
        struct error e;
        assert_int_equal(assign(&t, typed[i], &e), ERR_CONFIG);
        if (strstr(e.text, "did you mean"))
            fail_msg("%s", e.text);
    }
}

static void test_malformed_assignments(void **state)
{
    (void)state;
    struct target t = fresh();
    struct error e;
    char longest[2000];
    memset(longest, 'a', sizeof longest);
    memcpy(longest + sizeof longest - 3, "=1", 3);
    assert_int_equal(assign(&t, "", &e), ERR_CONFIG);
    assert_int_equal(assign(&t, "run.slots", &e), ERR_CONFIG);
    assert_mentions(&e, "section.key=value");
    assert_int_equal(assign(&t, "=4", &e), ERR_CONFIG);
    assert_int_equal(assign(&t, longest, &e), ERR_CONFIG);
}

static int load(void **state, struct target *t, const char *text, struct error *e)
{
    char path[512];
    scratch_write(state, "c.ini", text, strlen(text), path);
    return config_file(keys, KEYS, t, path, e);
}

static void test_reads_files(void **state)
{
    struct target t = fresh();
    struct error e;
    assert_int_equal(load(state, &t, "", &e), 0);
    assert_int_equal(load(state, &t,
                          "# comment\n; another\n[run]\n  slots = 8   ; eight\nname=a;b#c # tail\n\n"
                          "[redis]\r\nenabled = on\r\n[optimiser]\nlr=0.5",
                          &e),
                     0);
    assert_int_equal(t.slots, 8);
    assert_string_equal(t.name, "a;b#c");
    assert_true(t.mirror);
    assert_true(t.lr == 0.5);
}

static void test_files_that_are_wrong(void **state)
{
    static const struct {
        const char *text, *where, *what;
    } bad[] = {
        {"[run]\nslots = 8\nslots = 8\n", "c.ini:3: ", "given twice, first in line 2"},
        {"[run]\n[redis]\nenabled=1\n[run]\nslot = 1\n", "c.ini:5: ", "run.slots"},
        {"[run]\nslots 8\nname = x y z\n", "c.ini:2: ", "key = value"},
        {"[run\nslots = 8\n", "c.ini:1: ", "[section]"},
        {"slots = 8\n", "c.ini:1: ", "unknown key '.slots'"},
        {"[run]\nname = a\n  b\n", "c.ini:3: ", "key = value"},
        {"[run]\nslots = 8\n\nslots2\nslots = 9\n", "c.ini:4: ", "key = value"},
        {"[run]\nslots = 0\nbroken\n", "c.ini:2: ", "out of range"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct target t = fresh();
        struct error e = {0};
        assert_int_equal(load(state, &t, bad[i].text, &e), ERR_CONFIG);
        assert_mentions(&e, bad[i].where);
        assert_mentions(&e, bad[i].what);
    }
}

/* Whatever a key holds can be written and read again, and what is no value may be of any length. */
static void test_lines_of_any_length(void **state)
{
    struct target t = fresh(), back = fresh();
    struct error e = {0};
    char path[512], value[1024], text[8192];
    memset(value, 'p', sizeof value - 1);
    value[0] = '/';
    value[sizeof value - 1] = '\0';
    snprintf(text, sizeof text, "[data]\n# %03000d\n; %03000d\npath = %s # %0500d\n", 0, 0, value, 0);
    assert_int_equal(load(state, &t, text, &e), 0);
    assert_string_equal(t.place, value);
    scratch_write(state, "out.ini", "", 0, path);
    FILE *f = fopen(path, "we");
    config_write(keys, KEYS, &t, f);
    fclose(f);
    assert_int_equal(config_file(keys, KEYS, &back, path, &e), 0);
    assert_memory_equal(&t, &back, sizeof t);
    snprintf(text, sizeof text, "[data]\n\npath = %sx\n", value);
    assert_int_equal(load(state, &t, text, &e), ERR_CONFIG);
    assert_mentions(&e, "c.ini:3: data.path has 1024 bytes, at most 1023 are allowed");
}

static void test_a_file_beyond_the_limit(void **state)
{
    struct target t = fresh();
    struct error e = {0};
    size_t size = CONFIG_FILE_MAX + 1;
    char path[512], *text = malloc(size);
    memset(text, '#', size);
    scratch_write(state, "big.ini", text, size, path);
    assert_int_equal(config_file(keys, KEYS, &t, path, &e), ERR_RANGE);
    assert_mentions(&e, "1048576");
    scratch_write(state, "big.ini", text, size - 1, path);
    assert_int_equal(config_file(keys, KEYS, &t, path, &e), 0);
    free(text);
}

static void test_what_other_programs_write(void **state)
{
    struct error e = {0};
    static const char *const same[] = {
        "\xef\xbb\xbf[run]\nslots=8\nname=x\n",       /* byte order mark */
        "[run]\r\nslots = 8\r\nname = x\r\n",         /* CRLF */
        "\t[run]\t\n\tslots\t=\t8\t\n\tname:x",       /* tabs, colon, no end of line */
        "[ run ] ; section\nslots: 8;\nname = x #\n", /* the ';' touches the number: no comment */
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        struct target t = fresh();
        int rc = load(state, &t, same[i], &e);
        if (i == 3) {
            assert_int_equal(rc, ERR_CONFIG);
            assert_mentions(&e, "c.ini:2: run.slots = '8;'");
            continue;
        }
        assert_int_equal(rc, 0);
        assert_int_equal(t.slots, 8);
        assert_string_equal(t.name, "x");
    }
    struct target t = fresh();
    assert_int_equal(load(state, &t, "[run]\nname = ; nothing\n[data]\npath = # nothing", &e), 0);
    assert_string_equal(t.name, "");
    assert_string_equal(t.place, "");
}

static void test_binary_and_absent_files(void **state)
{
    struct target t = fresh();
    struct error e;
    char path[512];
    scratch_write(state, "b.ini", "[run]\nsl\0ots = 1\nname = x\n", 27, path);
    assert_int_equal(config_file(keys, KEYS, &t, path, &e), ERR_CONFIG);
    assert_mentions(&e, "b.ini:2: a NUL byte");
    snprintf(path, sizeof path, "%s/absent.ini", (const char *)*state);
    assert_int_equal(config_file(keys, KEYS, &t, path, &e), ERR_NOT_FOUND);
    assert_mentions(&e, "absent.ini");
    assert_int_equal(config_file(keys, KEYS, &t, *state, &e), ERR_IO);
}

static void test_a_long_path_leaves_room_for_the_cause(void **state)
{
    struct target t = fresh();
    struct error e = {0};
    char origin[1024];
    (void)state;
    memset(origin, 'd', sizeof origin);
    strcpy(origin + sizeof origin - 7, "/c.ini");
    assert_int_equal(config_memory(keys, KEYS, &t, "[run]\nslots = 0\n", 16, origin, &e), ERR_CONFIG);
    assert_mentions(&e, "/c.ini:2: run.slots = 0 is out of range");
}

static void test_paths_become_absolute(void **state)
{
    (void)state;
    static const struct {
        const char *given, *directory, *wanted;
    } cases[] = {
        {"data/set.npz", "/home/a", "/home/a/data/set.npz"},
        {"./set", "/home/a", "/home/a/set"},
        {"../set", "/home/a", "/home/a/../set"},
        {".", "/home/a", "/home/a"},
        {"./", "/home/a", "/home/a"},
        {"x", "/", "/x"},
        {".", "/", "/"},
        {"/x/y", "/home/a", "/x/y"},
        {"", "/home/a", ""},
        {".hidden", "/home/a", "/home/a/.hidden"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct target t = fresh();
        struct error e = {0};
        strcpy(t.place, cases[i].given);
        strcpy(t.name, "data/name");
        assert_int_equal(config_resolve_paths(keys, KEYS, &t, cases[i].directory, &e), 0);
        assert_string_equal(t.place, cases[i].wanted);
        assert_string_equal(t.name, "data/name"); /* not a path */
    }
    struct target t = fresh();
    struct error e = {0};
    memset(t.place, 'x', sizeof t.place - 1);
    assert_int_equal(config_resolve_paths(keys, KEYS, &t, "/home", &e), ERR_CONFIG);
    assert_mentions(&e, "data.path = xxx");
    assert_mentions(&e, "1029 bytes, at most 1023");
}

/* No message and no file repeats what could be a password. */
static void test_secrets_are_not_shown(void **state)
{
    struct target t = fresh(), back = fresh();
    struct error e = {0};
    char path[512], text[256];
    static const char *const refused[] = {
        "run.name=a://:S3CRET@h", "data.path=redis://u:S3CRET@host:1/0",
        "redis.password=S3CRET ", "redis.password:S3CRET",
        "redis.passwort=S3CRET",  "redis.password=S3CRETS3CRETS3CRETS3CRETS3CRETS3CRET",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        assert_int_equal(assign(&t, refused[i], &e), ERR_CONFIG);
        if (strstr(e.text, "S3CRET") != NULL)
            fail_msg("'%s' shows it", e.text);
        snprintf(text, sizeof text, "[redis]\n%s\n", strchr(refused[i], '.') + 1);
        if (load(state, &back, text, &e) != 0 && strstr(e.text, "S3CRET") != NULL)
            fail_msg("'%s' shows it", e.text);
    }
    assert_int_equal(assign(&t, "redis.password=S3CRET", &e), 0);
    assert_string_equal(t.secret, "S3CRET");
    assert_int_equal(assign(&t, "data.path=/a/b@c:d", &e), 0);
    scratch_write(state, "out.ini", "", 0, path);
    FILE *f = fopen(path, "w+e");
    config_write(keys, KEYS, &t, f);
    rewind(f);
    while (fgets(text, sizeof text, f))
        assert_null(strstr(text, "S3CRET"));
    fclose(f);
}

static void test_reads_the_environment(void **state)
{
    (void)state;
    struct target t = fresh();
    struct error e;
    char *none[] = {NULL};
    char *fine[] = {"PATH=/bin", "DECANT_RUN_SLOTS=16", "DECANT_RUN_LOG_EVERY=3", "DECANT_HOME=/x",
                    "DECANT_",   "DECANT_BIN_DIR=/y",   "DECANT_RUN_NAME=a=b",    NULL};
    assert_int_equal(config_environment(keys, KEYS, &t, none, &e), 0);
    assert_int_equal(config_environment(keys, KEYS, &t, fine, &e), 0);
    assert_int_equal(t.slots, 16);
    assert_int_equal(t.steps, 3);
    assert_string_equal(t.name, "a=b");
    char *unknown[] = {"DECANT_RUN_SLOTZ=16", NULL};
    assert_int_equal(config_environment(keys, KEYS, &t, unknown, &e), ERR_CONFIG);
    assert_mentions(&e, "DECANT_RUN_SLOTZ");
    assert_mentions(&e, "run.slots");
    char *bad[] = {"DECANT_RUN_SLOTS=many", NULL};
    assert_int_equal(config_environment(keys, KEYS, &t, bad, &e), ERR_CONFIG);
    assert_mentions(&e, "DECANT_RUN_SLOTS");
}

static void test_written_files_read_back(void **state)
{
    struct target t = fresh(), back = fresh();
    struct error e;
    char path[512];
    assert_int_equal(assign(&t, "optimiser.lr=1.3333333333", NULL), 0);
    assert_int_equal(assign(&t, "run.log_every=9000000000000000", NULL), 0);
    assert_int_equal(assign(&t, "run.name=a b;c", NULL), 0);
    assert_int_equal(assign(&t, "encoder.model=vit", NULL), 0);
    scratch_write(state, "out.ini", "", 0, path);
    FILE *f = fopen(path, "we");
    config_write(keys, KEYS, &t, f);
    fclose(f);
    assert_int_equal(config_file(keys, KEYS, &back, path, &e), 0);
    assert_memory_equal(&t, &back, sizeof t);
}

static void test_values_are_canonical(void **state)
{
    (void)state;
    struct target t = fresh();
    char out[32], little[4];
    static const char *const wanted[] = {"4", "0.002", "default", "false", "conv", "10", "", "", "0.25,1", ""};
    strcpy(t.secret, "never shown");
    for (int i = 0; i < KEYS; i++) {
        config_value(&keys[i], &t, out, sizeof out);
        assert_string_equal(out, wanted[i]);
    }
    config_value(&keys[2], &t, little, sizeof little);
    assert_string_equal(little, "def");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_applied),
        cmocka_unit_test(test_assigns_every_type),
        cmocka_unit_test(test_lists_of_numbers),
        cmocka_unit_test(test_lists_of_paths_become_absolute),
        cmocka_unit_test(test_bad_values_change_nothing),
        cmocka_unit_test(test_range_is_in_the_message),
        cmocka_unit_test(test_unknown_keys_suggest_the_nearest),
        cmocka_unit_test(test_unknown_keys_suggest_nothing_far),
        cmocka_unit_test(test_malformed_assignments),
        scratch_test(test_reads_files),
        scratch_test(test_files_that_are_wrong),
        scratch_test(test_lines_of_any_length),
        scratch_test(test_a_file_beyond_the_limit),
        scratch_test(test_what_other_programs_write),
        scratch_test(test_binary_and_absent_files),
        cmocka_unit_test(test_a_long_path_leaves_room_for_the_cause),
        cmocka_unit_test(test_paths_become_absolute),
        scratch_test(test_secrets_are_not_shown),
        cmocka_unit_test(test_reads_the_environment),
        scratch_test(test_written_files_read_back),
        cmocka_unit_test(test_values_are_canonical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
