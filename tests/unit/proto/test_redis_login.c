/* The Redis login: where a password may come from, and that no text of ours shows it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "proto/redis_login.h"
#include "proto/run_config.h"
#include "tests/unit/common/scratch.h"

static int load(struct run_config *c, const char *const *assignments, size_t n, struct error *e)
{
    return run_config_load(c, NULL, NULL, assignments, n, e);
}

static void test_nothing_to_send_by_default(void **state)
{
    (void)state;
    struct run_config c;
    struct redis_login l;
    const char *arguments[2];
    assert_int_equal(load(&c, NULL, 0, NULL), 0);
    assert_int_equal(redis_login_read(&c, &l, NULL), 0);
    assert_int_equal(redis_login_arguments(&l, arguments), 0);
}

static void test_a_password_with_and_without_a_user(void **state)
{
    (void)state;
    static const char *const given[] = {"redis.password=a%s b", "redis.user=me"};
    struct run_config c;
    struct redis_login l;
    const char *arguments[2];
    assert_int_equal(load(&c, given, 1, NULL), 0);
    assert_int_equal(redis_login_read(&c, &l, NULL), 0);
    assert_int_equal(redis_login_arguments(&l, arguments), 1);
    assert_string_equal(arguments[0], "a%s b");
    assert_int_equal(load(&c, given, 2, NULL), 0);
    assert_int_equal(redis_login_read(&c, &l, NULL), 0);
    assert_int_equal(redis_login_arguments(&l, arguments), 2);
    assert_string_equal(arguments[0], "me");
    assert_string_equal(arguments[1], "a%s b");
    redis_login_wipe(&l);
    assert_string_equal(l.password, "");
}

static void test_a_password_from_a_file(void **state)
{
    char path[512], assignment[600];
    const char *given[] = {assignment, "redis.password=x"};
    struct run_config c;
    struct redis_login l;
    struct error e = {0};
    static const char *const good[] = {"s3cret", "s3cret\n", "s3cret\r\nmore\n"}, *const bad[] = {"", "\n", "\nx"};
    for (size_t i = 0; i < 6; i++) {
        const char *text = i < 3 ? good[i] : bad[i - 3];
        scratch_write(state, "password", text, strlen(text), path);
        snprintf(assignment, sizeof assignment, "redis.password_file=%s", path);
        assert_int_equal(load(&c, given, 1, NULL), 0);
        assert_int_equal(redis_login_read(&c, &l, &e), i < 3 ? 0 : ERR_CONFIG);
        assert_string_equal(l.password, i < 3 ? "s3cret" : "");
    }
    assert_int_equal(load(&c, given, 2, NULL), 0);
    assert_int_equal(redis_login_read(&c, &l, &e), ERR_CONFIG); /* which one? */
    remove(path);
    assert_int_equal(load(&c, given, 1, NULL), 0);
    assert_int_equal(redis_login_read(&c, &l, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, path));
}

static void test_a_user_needs_a_password(void **state)
{
    (void)state;
    static const char *const given[] = {"redis.user=me"};
    struct run_config c;
    struct redis_login l;
    assert_int_equal(load(&c, given, 1, NULL), 0);
    assert_int_equal(redis_login_read(&c, &l, NULL), ERR_CONFIG);
}

static void test_the_password_is_not_written(void **state)
{
    (void)state;
    static const char *const given[] = {"redis.password=s3cret", "redis.user=me", "keys.directory=/keys"};
    static const char *const malformed[] = {"redis.password=s3cret "};
    struct run_config c, back;
    struct error e = {0};
    size_t size = 0, text_size = 0;
    char *text = NULL;
    assert_int_equal(load(&c, malformed, 1, &e), ERR_CONFIG);
    assert_null(strstr(e.text, "s3cret"));
    assert_int_equal(load(&c, given, 3, NULL), 0);
    FILE *f = open_memstream(&text, &text_size);
    config_write(run_config_keys, run_config_key_count, &c, f);
    assert_int_equal(fclose(f), 0);
    assert_null(strstr(text, "s3cret"));
    assert_non_null(strstr(text, "user = me"));
    free(text);
    char *record = run_config_record(&c, &size);
    assert_null(strstr(record, "s3cret"));
    assert_null(strstr(record, "/keys"));
    assert_int_equal(run_config_from_record(&back, record, size, "record", NULL), 0);
    assert_int_equal(run_config_hash(&back), run_config_hash(&c));
    assert_string_equal(back.redis.password, "");
    assert_string_equal(back.redis.user, "");
    free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_send_by_default),  cmocka_unit_test(test_a_password_with_and_without_a_user),
        scratch_test(test_a_password_from_a_file),          cmocka_unit_test(test_a_user_needs_a_password),
        cmocka_unit_test(test_the_password_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
