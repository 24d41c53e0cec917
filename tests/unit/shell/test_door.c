/* Where a server may listen without keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include "server/shell/door.h"

static void test_which_endpoints_are_local(void **state)
{
    static const char *const mine[] = {
        "tcp://127.0.0.1:5701", "tcp://127.1.2.3:*", "tcp://127.1:1", "tcp://localhost:1",         "tcp://[::1]:5701",
        "ipc:///run/a",         "ipc://*",           "inproc://a",    "tcp://[::ffff:127.0.0.1]:1"};
    static const char *const open[] = {"tcp://0.0.0.0:5701",        "tcp://*:5701",        "tcp://10.0.0.1:1",
                                       "tcp://[::]:5701",           "tcp://[fe80::127]:1", "tcp://1270:1",
                                       "tcp://[::ffff:10.0.0.1]:1", "pgm://eth0;a:1",      "",
                                       "epgm://127.0.0.1;a:1"};
    static const char *const none[] = {"tcp://127.evil.invalid:1", "tcp://::1:5701", "tcp://127.0.0.1", "tcp://[lo]:1"};
    bool local;
    struct error e;
    (void)state;
    for (size_t i = 0; i < sizeof mine / sizeof mine[0]; i++)
        assert_true(door_is_local(mine[i], &local, &e) == 0 && local);
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        assert_true(door_is_local(open[i], &local, &e) == 0 && !local);
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_int_not_equal(door_is_local(none[i], &local, &e), 0);
        assert_non_null(strstr(e.text, none[i]));
    }
}

/* An interface is judged by its addresses: a loopback that carries another one is open. */
static void test_an_interface_is_what_its_addresses_are(void **state)
{
    struct ifaddrs *all;
    struct error e;
    (void)state;
    assert_int_equal(getifaddrs(&all), 0);
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        char endpoint[64];
        bool local;
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        snprintf(endpoint, sizeof endpoint, "tcp://%s:5701", i->ifa_name);
        assert_int_equal(door_is_local(endpoint, &local, &e), 0);
        assert_int_equal(local, ntohl(((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr.s_addr) >> 24 == 127);
    }
    freeifaddrs(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_endpoints_are_local),
        cmocka_unit_test(test_an_interface_is_what_its_addresses_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
