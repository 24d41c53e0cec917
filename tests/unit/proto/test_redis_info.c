/* Which Redis may hold the mirror, by its INFO. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "proto/redis_info.h"

#define PLAIN "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\n"
#define MEMORY(used, most, policy)                                                                                     \
    "used_memory:" used "\r\nmaxmemory:" most "\r\nmaxmemory_human:1G\r\nmaxmemory_policy:" policy "\r\n"
#define MASTER "role:master\r\n"
#define ALONE "cluster_enabled:0\r\n"

static struct redis_judgement judge(const char *info)
{
    struct redis_judgement j;
    redis_judge(info, strlen(info), 1000, &j);
    assert_int_equal(j.text[0] == '\0', j.fitness == REDIS_FIT);
    assert_int_equal(j.advice[0] == '\0', j.fitness == REDIS_FIT);
    return j;
}

static void test_a_plain_one_is_fit(void **state)
{
    (void)state;
    struct redis_judgement j = judge(PLAIN MEMORY("900", "0", "noeviction") MASTER ALONE);
    assert_int_equal(j.fitness, REDIS_FIT);
    assert_string_equal(j.version, "7.0.15");
    assert_int_equal(judge("redis_version:5.0.0").fitness, REDIS_FIT); /* without a last line's end */
    assert_int_equal(judge(PLAIN MEMORY("900", "1900", "noeviction")).fitness, REDIS_FIT);
    assert_int_equal(judge(PLAIN "x_cluster_enabled:1\r\nxrole:slave\r\n").fitness, REDIS_FIT);
}

static void unfit(const char *info, const char *why, const char *advice)
{
    struct redis_judgement j = judge(info);
    assert_int_equal(j.fitness, REDIS_UNFIT);
    assert_non_null(strstr(j.text, why));
    assert_non_null(strstr(j.advice, advice));
}

static void test_what_never_takes_an_update_is_unfit(void **state)
{
    (void)state;
    unfit("", "no Redis", "address");
    unfit("OK POP3 ready", "no Redis", "address");
    unfit("redis_version:4.0.9\r\n", "5.0", "5.0");
    unfit("redis_version:6.0.1\r\nredis_mode:sentinel\r\n", "sentinel", "master");
    unfit(PLAIN MASTER "cluster_enabled:1\r\n", "cluster", "without cluster mode");
    unfit(PLAIN "role:slave\r\nmaster_host:10.0.0.7\r\nmaster_port:6380\r\n", "replica", "10.0.0.7:6380");
    unfit(PLAIN "role:slave\r\n", "replica", "master");
}

static void test_little_memory_is_said_with_what_its_policy_does(void **state)
{
    (void)state;
    struct redis_judgement j = judge(PLAIN MEMORY("900", "1899", "noeviction"));
    assert_int_equal(j.fitness, REDIS_TIGHT);
    assert_non_null(strstr(j.text, "refuses writes"));
    j = judge(PLAIN MEMORY("2000", "1000", "allkeys-lru"));
    assert_int_equal(j.fitness, REDIS_TIGHT);
    assert_non_null(strstr(j.text, "throws keys away"));
    assert_true(redis_bytes_needed(1024, 128, 128) == redis_bytes_needed(1024, 128, 1) + 1024 * 127 * 4);
}

/* It ends in logs within quotes, and in terminals. */
static void test_foreign_text_is_made_harmless(void **state)
{
    (void)state;
    struct redis_judgement j = judge("redis_version:7\"\033[2J\\ \xff"
                                     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
    assert_string_equal(j.version, "7??[2J???aaaaaaaaaaaaaaaaaaaaaa");
}

static void test_error_replies_have_an_advice(void **state)
{
    (void)state;
    assert_non_null(strstr(redis_error_advice("NOAUTH Authentication required."), "password"));
    assert_non_null(strstr(redis_error_advice("MOVED 866 10.0.0.7:6381"), "cluster"));
    assert_non_null(strstr(redis_error_advice("READONLY You can't write against a read only replica."), "master"));
    assert_non_null(
        strstr(redis_error_advice("ERR Error running script: @user_script:10: -OOM command not allowed"), "maxmemory"));
    assert_non_null(strstr(redis_error_advice("ERR max number of clients reached"), "maxclients"));
    assert_non_null(redis_error_advice(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_one_is_fit),
        cmocka_unit_test(test_what_never_takes_an_update_is_unfit),
        cmocka_unit_test(test_little_memory_is_said_with_what_its_policy_does),
        cmocka_unit_test(test_foreign_text_is_made_harmless),
        cmocka_unit_test(test_error_replies_have_an_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
