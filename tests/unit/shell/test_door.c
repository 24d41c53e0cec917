/* Where a server may listen without keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "server/shell/door.h"

static void test_which_endpoints_are_local(void **state)
{
    static const char *const local[] = {
        "tcp://127.0.0.1:5701", "tcp://127.1.2.3:*", "tcp://localhost:1", "tcp://[::1]:5701",
        "tcp://lo:5701",        "ipc:///run/a",      "ipc://*",           "inproc://a"};
    static const char *const open[] = {"tcp://0.0.0.0:5701",
                                       "tcp://*:5701",
                                       "tcp://eth0:5701",
                                       "tcp://10.0.0.1:1",
                                       "tcp://[::]:5701",
                                       "tcp://1270:1",
                                       "tcp://localhost.evil:1",
                                       "tcp://lo0:1",
                                       "tcp://127.evil.org:1",
                                       "pgm://eth0;a:1",
                                       "",
                                       "epgm://127.0.0.1;a:1"};
    (void)state;
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        assert_true(door_is_local(local[i]));
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        assert_false(door_is_local(open[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_which_endpoints_are_local),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
