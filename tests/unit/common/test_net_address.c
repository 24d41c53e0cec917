/* What addresses mean. No name is looked up but localhost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "common/net_address.h"

static void expect_text(const char *given, enum net_use use, const char *wanted)
{
    struct net_addresses found;
    char text[NET_ADDRESS_TEXT];
    struct error e = {0};
    assert_int_equal(net_resolve(given, use, &found, &e), 0);
    assert_int_equal(found.count, 1);
    assert_string_equal(net_address_text(&found.at[0], text), wanted);
}

static void test_numbers(void **state)
{
    (void)state;
    expect_text("127.0.0.1:5701", NET_TO_BIND, "127.0.0.1:5701");
    expect_text("10.1.2.3:65535", NET_TO_CONNECT, "10.1.2.3:65535");
    expect_text("[::1]:5701", NET_TO_CONNECT, "[::1]:5701");
    expect_text("[0:0::0:1]:1", NET_TO_BIND, "[::1]:1");
    expect_text("[::1]:*", NET_TO_BIND, "[::1]:0");
    expect_text("0.0.0.0:0", NET_TO_BIND, "0.0.0.0:0");
    expect_text("[fe80::1%lo]:7", NET_TO_BIND, "[fe80::1%lo]:7");
}

static void test_what_is_no_address(void **state)
{
    static const char *const never[] = {"",       ":",    ":5701",    "host",   "127.0.0.1",     "::1:5701",  "[::1]",
                                        "[::1]:", "[]:1", "[::1:1",   "::1]:1", "127.0.0.1:x",   "a:65536",   "a:-1",
                                        "a:+1",   "a: 1", "a:123456", "[lo]:1", "[127.0.0.1]:1", "[[::1]]:1", "a:1:2"};
    static const char *const to_bind_only[] = {"*:1", "127.0.0.1:0", "127.0.0.1:*", "[::1]:0"};
    struct net_addresses found;
    struct error e;
    char longest[400];
    (void)state;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        assert_int_equal(net_resolve(never[i], NET_TO_BIND, &found, &e), ERR_CONFIG);
        assert_int_equal(net_resolve(never[i], NET_TO_CONNECT, &found, &e), ERR_CONFIG);
    }
    for (size_t i = 0; i < sizeof to_bind_only / sizeof to_bind_only[0]; i++) {
        assert_int_equal(net_resolve(to_bind_only[i], NET_TO_BIND, &found, &e), 0);
        assert_int_not_equal(net_resolve(to_bind_only[i], NET_TO_CONNECT, &found, &e), 0);
    }
    memset(longest, 'x', sizeof longest);
    memcpy(longest + sizeof longest - 3, ":1", 3);
    assert_int_equal(net_resolve(longest, NET_TO_BIND, &found, &e), ERR_CONFIG);
}

static void test_names_and_interfaces(void **state)
{
    struct net_addresses found;
    struct error e;
    (void)state;
    assert_int_equal(net_resolve("localhost:5701", NET_TO_CONNECT, &found, &e), 0);
    for (size_t i = 0; i < found.count; i++) {
        assert_true(net_address_is_loopback(&found.at[i]));
        assert_int_equal(net_address_port(&found.at[i]), 5701);
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(&found.at[i], &found.at[k], sizeof found.at[i]);
    }
    assert_int_equal(net_resolve("lo:5701", NET_TO_BIND, &found, &e), 0);
    assert_true(found.count >= 1 && net_address_port(&found.at[0]) == 5701);
}

static void test_kinds(void **state)
{
    static const struct {
        const char *text;
        bool loopback, any;
    } cases[] = {{"127.9.9.9:1", true, false},
                 {"128.0.0.1:1", false, false},
                 {"0.0.0.0:1", false, true},
                 {"[::1]:1", true, false},
                 {"[::2]:1", false, false},
                 {"[::]:1", false, true},
                 {"*:1", false, true},
                 {"[::ffff:127.0.0.1]:1", true, false},
                 {"[::ffff:1.2.3.4]:1", false, false}};
    struct net_addresses found;
    struct error e;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(net_resolve(cases[i].text, NET_TO_BIND, &found, &e), 0);
        assert_int_equal(net_address_is_loopback(&found.at[0]), cases[i].loopback);
        assert_int_equal(net_address_is_any(&found.at[0]), cases[i].any);
    }
    assert_true(net_address_is_absent(EADDRNOTAVAIL) && !net_address_is_absent(EADDRINUSE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_what_is_no_address),
        cmocka_unit_test(test_names_and_interfaces),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
