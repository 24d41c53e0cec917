/* What a run was computed from and by: who may take part, what is kept, and what is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "common/log.h"
#include "proto/provenance.h"

static struct run_config config_of(const char *assignment)
{
    struct run_config c;
    struct error e = {0};
    if (run_config_load(&c, NULL, NULL, &assignment, assignment ? 1 : 0, &e) != 0)
        fail_msg("%s", e.text);
    return c;
}

static struct msg hello(double data, double numerics)
{
    struct msg m;
    msg_init(&m, MSG_HELLO, "r");
    m.worker = 7;
    if (data != 0)
        msg_add_scalar(&m, "data", data);
    if (numerics != 0)
        msg_add_scalar(&m, "numerics", numerics);
    return m;
}

/* As a server does; 0 or why it was refused. */
static enum reason say(struct provenance *p, const struct run_config *c, double data, double numerics)
{
    const char *text;
    struct msg m = hello(data, numerics);
    const struct provenance before = *p;
    enum reason why = provenance_check(p, c, &m, &text);
    assert_memory_equal(p, &before, sizeof before);
    assert_true((text[0] != '\0') == (why != 0));
    assert_true(strlen(text) < MSG_TEXT_MAX);
    if (why == 0)
        provenance_take(p, &m, 40);
    return why;
}

static void test_the_first_worker_is_believed(void **state)
{
    (void)state;
    const struct run_config c = config_of(NULL);
    struct provenance p = {0};
    assert_int_equal(say(&p, &c, 0, 0), 0);
    assert_int_equal(p.data, 0);
    assert_int_equal(say(&p, &c, 77, 88), 0);
    assert_int_equal(say(&p, &c, 0, 0), 0);
    assert_int_equal(say(&p, &c, 77, 88), 0);
    assert_int_equal(say(&p, &c, 78, 88), REASON_WRONG_CONFIG);
    assert_int_equal(say(&p, &c, 77, 89), REASON_WRONG_CONFIG);
    assert_int_equal(p.data, 77);
    assert_int_equal(p.numerics, 88);
    assert_int_equal(p.data_before, 0);
    assert_int_equal(p.numerics_other, 0);
}

static void test_whoever_merely_asks_tells_nothing(void **state)
{
    (void)state;
    const struct run_config c = config_of(NULL);
    struct provenance p = {0};
    const char *text;
    struct msg m = hello(77, 88);
    m.worker = 0;
    assert_int_equal(provenance_check(&p, &c, &m, &text), 0);
    provenance_take(&p, &m, 0);
    assert_int_equal(p.data, 0);
    assert_int_equal(p.numerics, 0);
}

static void test_what_is_no_fingerprint_is_refused(void **state)
{
    (void)state;
    static const double bad[] = {-1, 0.5, 1e300, 9007199254740992.0, -1e300};
    const struct run_config c = config_of(NULL);
    struct provenance p = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(say(&p, &c, bad[i], 1), REASON_BAD_VALUE);
        assert_int_equal(say(&p, &c, 1, bad[i]), REASON_BAD_VALUE);
    }
    assert_int_equal(say(&p, &c, 9007199254740991.0, 1), 0);
}

/* Once in the life of a process: two workers with different images are never right. */
static void test_other_images_can_be_accepted_once(void **state)
{
    (void)state;
    const struct run_config c = config_of("run.accept_data=true");
    struct provenance p = {0};
    const struct provenance kept = {.data = 77, .numerics = 88};
    provenance_adopt(&p, &kept);
    assert_int_equal(say(&p, &c, 78, 88), 0);
    assert_int_equal(p.data, 78);
    assert_int_equal(p.data_before, 77);
    assert_int_equal(p.data_since, 40);
    assert_int_equal(say(&p, &c, 77, 88), REASON_WRONG_CONFIG);
    assert_int_equal(say(&p, &c, 79, 88), REASON_WRONG_CONFIG);
    assert_int_equal(say(&p, &c, 78, 88), 0);
    provenance_adopt(&p, &kept); /* going back does not bring the old images back */
    assert_int_equal(p.data, 78);
    struct provenance fresh = {0};
    assert_int_equal(say(&fresh, &c, 1, 1), 0);
    assert_int_equal(say(&fresh, &c, 2, 1), REASON_WRONG_CONFIG);
}

static void test_any_arithmetic_can_be_admitted_and_is_noted(void **state)
{
    (void)state;
    const struct run_config c = config_of("run.numerics=any");
    struct provenance p = {0};
    assert_int_equal(say(&p, &c, 77, 88), 0);
    assert_int_equal(say(&p, &c, 77, 90), 0);
    assert_int_equal(p.numerics, 88);
    assert_int_equal(p.numerics_other, 90);
    assert_int_equal(say(&p, &c, 77, 88), 0);
    assert_int_equal(p.numerics_other, 90);
    assert_int_equal(say(&p, &c, 78, 88), REASON_WRONG_CONFIG); /* images are another matter */
}

static void test_a_server_compares_itself(void **state)
{
    (void)state;
    const struct run_config same = config_of(NULL), any = config_of("run.numerics=any");
    struct error e = {0};
    struct provenance p = {.data = 1, .numerics = 2, .server_numerics = 5};
    assert_int_equal(provenance_take_server(&p, &same, 5, &e), 0);
    assert_int_equal(p.server_other, 0);
    assert_int_equal(provenance_take_server(&p, &same, 6, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "DECANT_KERNELS"));
    assert_int_equal(p.server_numerics, 5);
    assert_int_equal(provenance_take_server(&p, &any, 6, &e), 0);
    assert_int_equal(p.server_numerics, 6);
    assert_int_equal(p.server_other, 5);
    struct provenance old = {0}; /* of a checkpoint that does not say */
    assert_int_equal(provenance_take_server(&old, &same, 6, &e), 0);
    assert_int_equal(old.server_numerics, 6);
}

static void test_metadata_round_trip(void **state)
{
    (void)state;
    const struct provenance all = {.data = 1,
                                   .data_before = FINGERPRINT_MASK,
                                   .data_since = 0,
                                   .numerics = 3,
                                   .numerics_other = 0xabcdef,
                                   .server_numerics = 5,
                                   .server_other = 6},
                            some = {.data = 9, .server_numerics = 5}, none = {0};
    const struct provenance *const cases[] = {&all, &some, &none};
    const size_t entries[] = {7, 2, 0};
    for (size_t i = 0; i < 3; i++) {
        struct metadata_entry meta[PROVENANCE_ENTRIES_MAX] = {0};
        struct provenance back;
        struct error e = {0};
        struct safetensors f = {.metadata = meta};
        f.metadata_count = provenance_to_metadata(cases[i], meta);
        assert_int_equal(f.metadata_count, entries[i]);
        assert_int_equal(provenance_from_metadata(&f, &back, &e), 0);
        assert_memory_equal(&back, cases[i], sizeof back);
    }
}

static void test_metadata_that_is_wrong(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"data", ""},
        {"data", "0"},
        {"data", "-1"},
        {"data", "0x1"},
        {"data", "1 "},
        {"numerics", "AB"},
        {"numerics", "g"},
        {"data_since", "1f"},
        {"data_since", ""},
        {"server_numerics", "20000000000000"},
        {"server_other", "111111111111111"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct metadata_entry meta[1] = {0};
        struct provenance p;
        struct error e = {0};
        struct safetensors f = {.metadata = meta, .metadata_count = 1};
        strcpy(meta[0].key, bad[i][0]);
        strcpy(meta[0].value, bad[i][1]);
        if (provenance_from_metadata(&f, &p, &e) != ERR_FORMAT)
            fail_msg("%s = '%s' was taken", bad[i][0], bad[i][1]);
        assert_non_null(strstr(e.text, bad[i][0]));
    }
}

static void test_fingerprints_are_exact_in_a_scalar(void **state)
{
    (void)state;
    assert_int_equal(fingerprint_of(0), 1);
    assert_int_equal(fingerprint_of(UINT64_MAX), FINGERPRINT_MASK);
    assert_int_equal((uint64_t)(double)fingerprint_of(UINT64_MAX), FINGERPRINT_MASK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_worker_is_believed),
        cmocka_unit_test(test_whoever_merely_asks_tells_nothing),
        cmocka_unit_test(test_what_is_no_fingerprint_is_refused),
        cmocka_unit_test(test_other_images_can_be_accepted_once),
        cmocka_unit_test(test_any_arithmetic_can_be_admitted_and_is_noted),
        cmocka_unit_test(test_a_server_compares_itself),
        cmocka_unit_test(test_metadata_round_trip),
        cmocka_unit_test(test_metadata_that_is_wrong),
        cmocka_unit_test(test_fingerprints_are_exact_in_a_scalar),
    };
    log_init("test", LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
