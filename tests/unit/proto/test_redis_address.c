/* Addresses of a Redis as people write them, and that no message, file or argument shows a password. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "proto/redis_address.h"
#include "proto/run_config.h"

struct expected {
    const char *text, *host;
    int64_t port, db;
    const char *user, *password;
};

static const struct redis_address before = {"was", 6379, 0, {"", ""}};

static void accepts(const struct expected *x)
{
    struct redis_address a = before;
    struct error e = {0};
    if (redis_address_parse(x->text, &a, &e) != 0)
        fail_msg("%s: %s", x->text, e.text);
    assert_string_equal(a.host, x->host);
    assert_int_equal(a.port, x->port);
    assert_int_equal(a.db, x->db);
    assert_string_equal(a.login.user, x->user);
    assert_string_equal(a.login.password, x->password);
}

static void test_plain_addresses(void **state)
{
    static const struct expected list[] = {
        {"redis", "redis", 6379, 0, "", ""},       {"redis:1", "redis", 1, 0, "", ""},
        {":65535", "127.0.0.1", 65535, 0, "", ""}, {"10.0.0.7:6380", "10.0.0.7", 6380, 0, "", ""},
        {"[::1]:7000", "::1", 7000, 0, "", ""},    {"[fe80::1%eth0]", "fe80::1%eth0", 6379, 0, "", ""},
        {"::1", "::1", 6379, 0, "", ""},           {"/run/redis:a.sock", "/run/redis:a.sock", 6379, 0, "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        accepts(&list[i]);
}

static void test_urls(void **state)
{
    static const struct expected list[] = {
        {"redis://", "127.0.0.1", 6379, 0, "", ""},
        {"redis://there", "there", 6379, 0, "", ""},
        {"redis://there/", "there", 6379, 0, "", ""},
        {"redis://there:7/3", "there", 7, 3, "", ""},
        {"redis://:s3cret@there:7", "there", 7, 0, "", "s3cret"},
        {"redis://me:s3cret@there", "there", 6379, 0, "me", "s3cret"},
        {"redis://me@there", "there", 6379, 0, "me", ""},
        {"redis://:a%40b%2Fc%3A%25@[::1]:7/15", "::1", 7, 15, "", "a@b/c:%"},
        {"redis://:a@b@there", "there", 6379, 0, "", "a@b"},
        {"redis://there:7?db=2&username=me&password=p%20w", "there", 7, 2, "me", "p w"},
        {"unix:///run/redis.sock", "/run/redis.sock", 6379, 0, "", ""},
        {"unix://:s3cret@/run/redis%20a.sock?db=4", "/run/redis a.sock", 6379, 4, "", "s3cret"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        accepts(&list[i]);
}

static void test_refusals_change_nothing_and_show_no_password(void **state)
{
    static const char *const list[] = {
        "",
        "host:",
        "host:port",
        "host:0",
        "host:65536",
        "host:12x",
        "host:+1",
        "host: 1",
        "a b",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[there]:1",
        "1:2:3",
        ":s3cret@there:1",
        "redis://:s3cret@there:port",
        "redis://:s3cret@there:70000",
        "redis://:s3cret@there/x",
        "redis://:s3cret@there/-1",
        "redis://:s3cret@there/9999999999",
        "redis://:s3cret@there?ssl=1",
        "redis://:s3cret@there?db",
        "redis://:s3cret@there#x",
        "redis://:s3cret/more@there",
        "redis://:s3cret%@there",
        "redis://:s3cret%zz@there",
        "redis://:s3cret%00@there",
        "redis://:s3cret@[there]",
        "rediss://:s3cret@there",
        "http://:s3cret@there",
        "://:s3cret@there",
        "unix://:s3cret@there/a",
        "unix://:s3cret@",
        "unix://:s3cret@/a?password=s3cret%",
        "there:s3cret@6379",
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct redis_address a = before;
        struct error e = {0};
        if (redis_address_parse(list[i], &a, &e) != ERR_CONFIG)
            fail_msg("accepted: %s", list[i]);
        assert_memory_equal(&a, &before, sizeof a);
        assert_true(strlen(e.text) > 0);
        assert_null(strstr(e.text, "s3cret"));
    }
}

static void test_what_does_not_fit_is_refused(void **state)
{
    char text[1200];
    struct redis_address a = before;
    (void)state;
    static const char *const forms[] = {"%.*s",        "/%.*s", "redis://%.*s", "redis://:%.*s@h", "redis://%.*s:p@h",
                                        "unix:///%.*s"};
    char longest[1000];
    memset(longest, 'x', sizeof longest);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        snprintf(text, sizeof text, forms[i], 300, longest);
        assert_int_equal(redis_address_parse(text, &a, NULL), ERR_CONFIG);
    }
}

static void test_tls_is_refused_with_what_to_do(void **state)
{
    struct redis_address a = before;
    struct error e;
    (void)state;
    assert_int_equal(redis_address_parse("rediss://there", &a, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "TLS"));
    assert_non_null(strstr(e.text, "stunnel"));
}

static void test_a_login_that_is_not_named_stays(void **state)
{
    struct redis_address a = {"was", 1, 2, {"me", "s3cret"}};
    (void)state;
    assert_int_equal(redis_address_parse("there", &a, NULL), 0);
    assert_string_equal(a.login.user, "me");
    assert_int_equal(redis_address_parse("redis://there", &a, NULL), 0);
    assert_string_equal(a.login.password, "s3cret");
    assert_int_equal(a.db, 2);
    assert_int_equal(redis_address_parse("redis://you@there", &a, NULL), 0);
    assert_string_equal(a.login.user, "you");
    assert_string_equal(a.login.password, "s3cret");
    assert_int_equal(redis_address_parse("redis://:other@there", &a, NULL), 0); /* the default user's */
    assert_string_equal(a.login.user, "");
    assert_string_equal(a.login.password, "other");
}

static void test_text_for_people(void **state)
{
    static const struct redis_address list[] = {
        {"there", 7, 3, {"me", "s3cret"}}, {"::1", 7, 0, {"", "s3cret"}}, {"/a/b", 7, 0, {"", "s3cret"}}};
    static const char *const texts[] = {"there:7", "[::1]:7", "/a/b"};
    char text[REDIS_ADDRESS_TEXT_MAX];
    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(redis_address_text(&list[i], text), texts[i]);
}

static void test_arguments_are_blotted_out(void **state)
{
    char url[] = "redis://me:s3cr@t@there:1/2?password=s3cret", plain[] = "host:1", set[] = "redis.url=redis://:p@h";
    (void)state;
    redis_address_hide(url);
    assert_null(strstr(url, "s3cr"));
    assert_non_null(strstr(url, "@there:1/2"));
    redis_address_hide(plain);
    assert_string_equal(plain, "host:1");
    redis_address_hide(set);
    assert_string_equal(set, "redis.url=redis://**@h");
}

/* ---- in the configuration ---- */

static void test_a_url_in_the_configuration_is_taken_apart_and_never_written(void **state)
{
    static const char *const given[] = {"redis.url=redis://me:s3cret@[::1]:7/3", "redis.password_file=/other"};
    struct run_config c;
    struct redis_address a;
    char *text = NULL;
    size_t size = 0;
    (void)state;
    assert_int_equal(run_config_load(&c, NULL, NULL, given, 2, NULL), 0);
    assert_int_equal(redis_address_configured(&c, &a, NULL), 0);
    assert_string_equal(a.host, "::1");
    assert_int_equal(a.port, 7);
    assert_int_equal(a.db, 3);
    assert_string_equal(a.login.user, "me");
    assert_string_equal(a.login.password, "s3cret");
    FILE *f = open_memstream(&text, &size);
    config_write(run_config_keys, run_config_key_count, &c, f);
    assert_int_equal(fclose(f), 0);
    assert_null(strstr(text, "s3cret"));
    assert_non_null(strstr(text, "host = ::1\n"));
    assert_non_null(strstr(text, "db = 3\n"));
    free(text);
}

static void test_a_url_from_the_environment(void **state)
{
    char *environment[] = {"DECANT_REDIS_URL=unix://:s3cret@/run/redis.sock", NULL};
    struct run_config c;
    (void)state;
    assert_int_equal(run_config_load(&c, NULL, environment, NULL, 0, NULL), 0);
    assert_string_equal(c.redis.host, "/run/redis.sock");
    assert_string_equal(c.redis.password, "s3cret");
    assert_true(c.redis.enabled);
}

/* Where it is named does not matter; who says no in the same place, or in a later one, is heard. */
static void test_a_redis_that_is_named_is_used(void **state)
{
    char *named[] = {"DECANT_REDIS_URL=redis://there:6380", NULL}, *host[] = {"DECANT_REDIS_HOST=there", NULL};
    char *not_used[] = {"DECANT_REDIS_URL=redis://there:6380", "DECANT_REDIS_ENABLED=false", NULL};
    char *login_only[] = {"DECANT_REDIS_PASSWORD=x", NULL};
    static const char *const port[] = {"redis.port=6380"}, *const off[] = {"redis.enabled=false"},
                             *const both[] = {"redis.enabled=false", "redis.host=there"};
    const struct {
        char **environment;
        const char *const *sets;
        size_t count;
        bool used;
    } cases[] = {{named, NULL, 0, true},       {host, NULL, 0, true},    {not_used, NULL, 0, false},
                 {login_only, NULL, 0, false}, {NULL, port, 1, true},    {named, off, 1, false},
                 {NULL, both, 2, false},       {not_used, port, 1, true}};
    struct run_config c;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(run_config_load(&c, NULL, cases[i].environment, cases[i].sets, cases[i].count, NULL), 0);
        assert_int_equal(c.redis.enabled, cases[i].used);
    }
}

static void test_a_wrong_one_is_refused_without_its_password(void **state)
{
    static const char *const wrong[] = {"redis.url=redis://:s3cret@there:x", "redis.host=redis://:s3cret@there",
                                        "redis.url=redis://:s3cret%20@there", "redis.url=redis://:s3cret%0a@there"};
    struct run_config c;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct error e = {0};
        assert_int_equal(run_config_load(&c, NULL, NULL, &wrong[i], 1, &e), ERR_CONFIG);
        assert_non_null(strstr(e.text, "redis."));
        assert_null(strstr(e.text, "s3cret"));
    }
}

static void test_brackets_around_a_configured_host_are_dropped(void **state)
{
    static const char *const given[] = {"redis.host=[::1]"};
    struct run_config c;
    struct redis_address a;
    (void)state;
    assert_int_equal(run_config_load(&c, NULL, NULL, given, 1, NULL), 0);
    assert_int_equal(redis_address_configured(&c, &a, NULL), 0);
    assert_string_equal(a.host, "::1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_addresses),
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_refusals_change_nothing_and_show_no_password),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_tls_is_refused_with_what_to_do),
        cmocka_unit_test(test_a_login_that_is_not_named_stays),
        cmocka_unit_test(test_text_for_people),
        cmocka_unit_test(test_arguments_are_blotted_out),
        cmocka_unit_test(test_a_url_in_the_configuration_is_taken_apart_and_never_written),
        cmocka_unit_test(test_a_url_from_the_environment),
        cmocka_unit_test(test_a_redis_that_is_named_is_used),
        cmocka_unit_test(test_a_wrong_one_is_refused_without_its_password),
        cmocka_unit_test(test_brackets_around_a_configured_host_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
