/* The configuration that a server adds when it refuses another one: what differs is named, nothing private travels, and
 * what a stranger sends names nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "proto/config_wire.h"

static void config_of(struct run_config *c, const char *set)
{
    const char *sets[] = {"data.path=/home/private", "redis.password=s3cret", set};
    assert_int_equal(run_config_load(c, NULL, NULL, sets, set ? 3 : 2, NULL), 0);
}

static void test_keys_that_differ_are_named(void **state)
{
    struct run_config server, same, other;
    struct msg m;
    char keys[200];
    (void)state;
    config_of(&server, NULL);
    config_of(&same, "net.parameter=tcp://elsewhere:1");
    config_of(&other, "optimiser.lr=0.25");
    msg_init(&m, MSG_ERROR, "run");
    assert_int_equal(config_wire_add(&server, &m), 0);
    assert_int_equal(config_wire_differences(&m, &same, keys, sizeof keys), 0);
    assert_int_equal(config_wire_differences(&m, &other, keys, sizeof keys), 1);
    assert_string_equal(keys, "optimiser.lr = 0.002, not 0.25");
    const struct buf *sent = m.tensors[0].data;
    assert_null(memmem(sent->data, sent->size, "private", 7));
    assert_null(memmem(sent->data, sent->size, "s3cret", 6));
    msg_fini(&m);
}

static void test_what_makes_no_sense_names_nothing(void **state)
{
    static const char *const texts[] = {"[run", "[run]\nno such key = 1\n", "\x00\xff"};
    struct run_config own;
    char keys[200];
    struct msg m;
    (void)state;
    config_of(&own, "optimiser.lr=0.25");
    msg_init(&m, MSG_ERROR, "run");
    assert_int_equal(config_wire_differences(&m, &own, keys, sizeof keys), 0); /* a server that does not tell */
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint64_t size = strlen(texts[i]) + 1;
        msg_init(&m, MSG_ERROR, "run");
        assert_int_equal(msg_add_tensor(&m, "config", DTYPE_U8, 1, &size, buf_copy(texts[i], size)), 0);
        assert_int_equal(config_wire_differences(&m, &own, keys, sizeof keys), 0);
        assert_string_equal(keys, "");
        msg_fini(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_that_differ_are_named),
        cmocka_unit_test(test_what_makes_no_sense_names_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
