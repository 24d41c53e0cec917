/* The table of roles, written out once more, type by type. */
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "proto/roles.h"

static bool may(enum role r, enum server to, enum msg_type type)
{
    struct msg m;
    msg_init(&m, type, "run");
    return role_may_send(r, to, &m);
}

static void test_every_type_by_role(void **state)
{
    (void)state;
    for (int type = 0; type < MSG_TYPE_END; type++) {
        bool looks = type == MSG_HELLO || type == MSG_PING || type == MSG_MIXTURE_GET;
        for (enum server s = SERVER_PARAMETER; s <= SERVER_PROTOTYPE; s++) {
            bool streams = looks || (type == MSG_STATS && s == SERVER_PROTOTYPE);
            assert_false(may(ROLE_NONE, s, type));
            assert_int_equal(may(ROLE_VIEWER, s, type), looks);
            assert_int_equal(may(ROLE_CLIENT, s, type), streams);
            assert_true(may(ROLE_WORKER, s, type));
        }
    }
    assert_false(may(ROLE_WORKER, SERVER_PARAMETER, MSG_TYPE_END));
    assert_false(may(ROLE_WORKER, SERVER_PARAMETER, (enum msg_type)0xffffffff));
}

/* What would act in a worker's name, or set the length of the run. */
static void test_looking_touches_nothing(void **state)
{
    (void)state;
    struct msg ping, hello;
    msg_init(&ping, MSG_PING, "run");
    ping.worker = 7;
    msg_init(&hello, MSG_HELLO, "");
    assert_int_equal(msg_add_scalar(&hello, "any", 0), 0);
    for (enum server s = SERVER_PARAMETER; s <= SERVER_PROTOTYPE; s++) {
        assert_false(role_may_send(ROLE_VIEWER, s, &ping));
        assert_false(role_may_send(ROLE_VIEWER, s, &hello));
        assert_int_equal(role_may_send(ROLE_CLIENT, s, &ping), s == SERVER_PROTOTYPE);
        assert_int_equal(role_may_send(ROLE_CLIENT, s, &hello), s == SERVER_PROTOTYPE);
        assert_true(role_may_send(ROLE_WORKER, s, &ping) && role_may_send(ROLE_WORKER, s, &hello));
    }
}

static void test_names(void **state)
{
    (void)state;
    for (enum role r = ROLE_NONE; r < ROLE_END; r++)
        assert_int_equal(role_parse(role_name(r)), r);
    assert_int_equal(role_parse(""), ROLE_NONE);
    assert_int_equal(role_parse("workers"), ROLE_NONE);
    assert_string_equal(server_name(SERVER_PARAMETER), "parameter");
    assert_string_equal(server_name(SERVER_PROTOTYPE), "prototype");
}

static void test_only_workers_subscribe_to_weights(void **state)
{
    static const char *const reach[] = {"", "w", "weight", "weights"}, *const miss[] = {"weights2", "metrics", "stop",
                                                                                        "x"};
    (void)state;
    for (size_t i = 0; i < 4; i++)
        for (enum role r = ROLE_NONE; r < ROLE_END; r++) {
            size_t size = strlen(reach[i]);
            assert_int_equal(role_may_subscribe(r, SERVER_PARAMETER, reach[i], size), r == ROLE_WORKER);
            assert_int_equal(role_may_subscribe(r, SERVER_PROTOTYPE, reach[i], size), r != ROLE_NONE);
            assert_int_equal(role_may_subscribe(r, SERVER_PARAMETER, miss[i], strlen(miss[i])), r != ROLE_NONE);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_workers_subscribe_to_weights),
        cmocka_unit_test(test_every_type_by_role),
        cmocka_unit_test(test_looking_touches_nothing),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
