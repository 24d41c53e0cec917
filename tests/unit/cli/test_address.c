/* Addresses as people type them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "cli/address.h"

static void accept(const char *text, const char *host, int64_t port)
{
    char parsed[32];
    int64_t number = 6379;
    struct error e;
    assert_int_equal(address_parse(text, parsed, sizeof parsed, &number, &e), 0);
    assert_string_equal(parsed, host);
    assert_int_equal(number, port);
}

static void refuse(const char *text)
{
    char parsed[32];
    int64_t number = 1;
    struct error e = {0};
    assert_int_equal(address_parse(text, parsed, sizeof parsed, &number, &e), ERR_CONFIG);
    assert_true(strlen(e.text) > 0);
}

static void test_refused(void **state)
{
    (void)state;
    refuse("");
    refuse("host:");
    refuse("host:port");
    refuse("host:0");
    refuse("host:65536");
    refuse("host:12x");
    refuse("a-host-name-that-does-not-fit-into-the-field:1");
}

static void test_accepted(void **state)
{
    (void)state;
    accept("redis", "redis", 6379);
    accept("redis:1", "redis", 1);
    accept(":65535", "127.0.0.1", 65535);
    accept("10.0.0.7:6380", "10.0.0.7", 6380);
    accept("/run/redis:a.sock", "/run/redis:a.sock", 6379);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
