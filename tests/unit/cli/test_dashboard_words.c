/* What the dashboard says, at and beside each of its thresholds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include "cli/dashboard_words.h"

static struct run_facts unknown(void)
{
    return (struct run_facts){.begun = true,
                              .step = 500,
                              .total = 1000,
                              .K = 1024,
                              .D = NAN,
                              .unique_01 = NAN,
                              .unique_01_max = NAN,
                              .active = NAN,
                              .perplexity = NAN,
                              .spike = NAN,
                              .loss = NAN,
                              .workers = NAN,
                              .silent_workers = 0,
                              .quiet_s = NAN};
}

static void assert_says(const struct run_facts *f, enum words_level level, const char *what)
{
    struct words w;
    dashboard_words(f, &w);
    for (size_t i = 0; i < w.count; i++)
        if (w.items[i].level == level && strstr(w.items[i].text, what))
            return;
    fail_msg("nothing of level %s says '%s'; first of %zu: %s", words_level_name(level), what, w.count,
             w.items[0].text);
}

static void assert_silent(const struct run_facts *f, const char *what)
{
    struct words w;
    dashboard_words(f, &w);
    for (size_t i = 0; i < w.count; i++)
        if (strstr(w.items[i].text, what))
            fail_msg("said '%s'", w.items[i].text);
}

static void test_nothing_known(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.begun = false;
    assert_says(&f, WORDS_NOTE, "has not begun");
    assert_silent(&f, "--redis");
    f.mirror_named = true;
    assert_says(&f, WORDS_WARN, "--redis names does not answer");
    f.live = true;
    assert_silent(&f, "--redis");
    f.begun = true;
    assert_says(&f, WORDS_NOTE, "not there yet");
}

/* What may not be read is not taken for absent, and hides nothing else. */
static void test_unreadable(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.begun = false;
    f.trouble = "runs/x/config.ini: Permission denied";
    assert_says(&f, WORDS_WARN, "can be read: runs/x/config.ini: Permission denied");
    assert_silent(&f, "has not begun");
    f.begun = true;
    f.unique_01 = 2;
    assert_says(&f, WORDS_WARN, "Permission denied");
    assert_says(&f, WORDS_BAD, "copies");
}

static void test_copies(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.unique_01 = 50;
    assert_says(&f, WORDS_BAD,
                "Half of the prototypes are copies of another (50 % within cosine distance 0.1): collapse.");
    f.unique_01 = 2;
    assert_says(&f, WORDS_BAD, "Practically all of the prototypes are copies");
    f.unique_01 = 50.1;
    assert_says(&f, WORDS_WARN, "Half of the prototypes are copies");
    assert_silent(&f, "collapse");
    f.unique_01 = 80;
    assert_says(&f, WORDS_WARN, "A fifth of the prototypes");
    f.unique_01 = 80.1;
    assert_says(&f, WORDS_NOTE, "Most prototypes differ");
    f.unique_01 = 90;
    assert_says(&f, WORDS_NOTE, "Most prototypes differ");
    f.unique_01 = 90.1;
    assert_says(&f, WORDS_GOOD, "Nearly all prototypes differ");
}

static void test_falling(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.unique_01 = 70;
    f.unique_01_max = 89.9;
    assert_silent(&f, "fallen");
    f.unique_01_max = 90;
    assert_says(&f, WORDS_WARN, "fallen from 90 to 70 %");
}

static void test_use(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.active = 49.9;
    assert_says(&f, WORDS_WARN, "Only 50 % of the prototypes are nearest");
    f.active = 50;
    assert_silent(&f, "nearest to any");
    f.active = 90;
    assert_says(&f, WORDS_GOOD, "90 % are active");
    f.perplexity = 0.0999 * 1024;
    assert_says(&f, WORDS_WARN, "as if only 102 of 1024");
    f.perplexity = 512;
    assert_says(&f, WORDS_GOOD, "as if 512 of 1024");
    f.perplexity = 300;
    assert_silent(&f, "as if");
}

static void test_spike_and_chance(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.spike = 0.37;
    f.loss = 0.97 * log(1024);
    assert_silent(&f, "spike");
    assert_silent(&f, "chance");
    f.spike = 0.375;
    assert_says(&f, WORDS_WARN, "38 % of the prototypes lie in one eighth");
    f.loss = 0.99 * log(1024);
    assert_says(&f, WORDS_WARN, "at ln K = 6.93");
    f.step = 99; /* every run begins there */
    assert_silent(&f, "chance");
}

static void test_state(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.quiet_s = 60;
    assert_says(&f, WORDS_WARN, "Nothing has moved for 60 s");
    f.step = 1000;
    assert_silent(&f, "Nothing has moved");
    assert_says(&f, WORDS_NOTE, "complete: 1000 steps");
    f.mirror_lost = true;
    assert_says(&f, WORDS_WARN, "Redis no longer answers");
    f.rewinds = 1;
    assert_says(&f, WORDS_NOTE, "1 time;");
}

static void test_workers(void **state)
{
    struct run_facts f = unknown();
    (void)state;
    f.workers = 0; /* of a file: they may have come since */
    assert_silent(&f, "No worker");
    f.live = true;
    assert_says(&f, WORDS_WARN, "No worker is connected");
    f.workers = 3;
    f.silent_workers = 1;
    assert_says(&f, WORDS_WARN, "1 of 3 workers are silent");
}

static void test_gravest_first(void **state)
{
    struct run_facts f = unknown();
    struct words w;
    (void)state;
    f.step = 1000;
    f.unique_01 = 10;
    f.active = 95;
    f.spike = 0.9;
    f.mirror_lost = true;
    dashboard_words(&f, &w);
    assert_int_equal(w.count, 5);
    assert_int_equal(w.items[0].level, WORDS_BAD);
    for (size_t i = 1; i < w.count; i++)
        assert_true(w.items[i].level <= w.items[i - 1].level);
    assert_non_null(strstr(w.items[1].text, "Redis")); /* equals keep their order */
}

static void test_two_runs(void **state)
{
    struct run_facts a = unknown(), b = unknown();
    struct words w = {.count = 0};
    (void)state;
    dashboard_words_compare("a", &a, "b", &b, &w);
    assert_int_equal(w.count, 0);
    a.unique_01 = 59;
    b.unique_01 = 92;
    dashboard_words_compare("joint", &a, "mine", &b, &w);
    assert_string_equal(w.items[0].text, "mine keeps 92 % of its prototypes apart, joint 59 %.");
    a.step = 100;
    dashboard_words_compare("joint", &a, "mine", &b, &w);
    assert_non_null(strstr(w.items[1].text, "not at the same step"));
    a.unique_01 = 82.1;
    dashboard_words_compare("joint", &a, "mine", &b, &w);
    assert_int_equal(w.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_falling),
        cmocka_unit_test(test_use),
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_spike_and_chance),
        cmocka_unit_test(test_workers),
        cmocka_unit_test(test_gravest_first),
        cmocka_unit_test(test_two_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
