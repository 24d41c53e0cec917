/* Bytes of a Redis, and of what is mistaken for one: bounded whatever they claim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "proto/redis_reader.h"

static void open_reader(struct redis_reader *r)
{
    assert_int_equal(redis_reader_init(r, 64, 4), 0);
    assert_true(redis_reader_empty(r));
}

static void test_replies_come_out_whole_however_they_are_cut(void **state)
{
    static const char wire[] = "+OK\r\n$5\r\nhello\r\n*2\r\n:7\r\n$-1\r\n-ERR no\r\n";
    static const int types[] = {REDIS_REPLY_STATUS, REDIS_REPLY_STRING, REDIS_REPLY_ARRAY, REDIS_REPLY_ERROR};
    (void)state;
    for (size_t cut = 1; cut < sizeof wire; cut++) {
        struct redis_reader r;
        redisReply *reply;
        size_t seen = 0;
        open_reader(&r);
        for (size_t at = 0; at < sizeof wire - 1; at += cut) {
            size_t n = sizeof wire - 1 - at < cut ? sizeof wire - 1 - at : cut;
            assert_int_equal(redis_reader_feed(&r, wire + at, n, NULL), 0);
            while (redis_reader_next(&r, &reply, NULL) == 0 && reply != NULL) {
                assert_int_equal(reply->type, types[seen++]);
                freeReplyObject(reply);
            }
        }
        assert_int_equal(seen, 4);
        assert_true(redis_reader_empty(&r));
        redis_reader_fini(&r);
    }
}

static int verdict(const char *wire, struct error *e)
{
    struct redis_reader r;
    redisReply *reply;
    open_reader(&r);
    assert_int_equal(redis_reader_feed(&r, wire, strlen(wire), NULL), 0);
    int rc = redis_reader_next(&r, &reply, e);
    if (rc == 0 && reply != NULL)
        freeReplyObject(reply);
    redis_reader_fini(&r);
    return rc;
}

static void test_claims_are_refused_before_anything_is_allocated(void **state)
{
    static const char *const claims[] = {"*2147483647\r\n", "*5\r\n", "*4\r\n*1\r\n", "*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
        struct error e = {0};
        assert_int_equal(verdict(claims[i], &e), ERR_FORMAT);
        assert_non_null(strstr(e.text, "more than 4 elements"));
    }
    assert_int_equal(verdict("*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n", NULL), 0);
}

static void test_what_is_not_the_protocol_is_refused(void **state)
{
    static const char *const wires[] = {"SSH-2.0-OpenSSH_9.2\r\n",
                                        "HTTP/1.1 400 Bad Request\r\n",
                                        "\x16\x03\x01",
                                        ":x\r\n",
                                        "$x\r\n",
                                        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof wires / sizeof wires[0]; i++)
        assert_int_equal(verdict(wires[i], NULL), ERR_FORMAT);
}

/* A string that claims 400 GB, a line without end, one byte at a time or all at once: at most reply_max are kept. */
static void test_an_endless_reply_ends_at_the_limit(void **state)
{
    static const char *const starts[] = {"$400000000000\r\n", "+", "$60\r\n", "*2\r\n$40\r\n"};
    (void)state;
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        struct redis_reader r;
        redisReply *reply = NULL;
        size_t fed = strlen(starts[i]);
        int rc = 0;
        open_reader(&r);
        assert_int_equal(redis_reader_feed(&r, starts[i], fed, NULL), 0);
        while ((rc = redis_reader_next(&r, &reply, NULL)) == 0 && reply == NULL) {
            assert_int_equal(redis_reader_feed(&r, "x", 1, NULL), 0);
            assert_true(++fed <= 65);
        }
        assert_int_equal(rc, ERR_FORMAT);
        redis_reader_fini(&r);
    }
}

/* The limit is a reply's: many small ones may come in one piece. */
static void test_many_replies_in_one_piece(void **state)
{
    struct redis_reader r;
    redisReply *reply;
    size_t seen = 0;
    (void)state;
    open_reader(&r);
    for (int i = 0; i < 100; i++)
        assert_int_equal(redis_reader_feed(&r, "*2\r\n:1\r\n:2\r\n", 12, NULL), 0);
    while (redis_reader_next(&r, &reply, NULL) == 0 && reply != NULL) {
        seen++;
        freeReplyObject(reply);
    }
    assert_int_equal(seen, 100);
    assert_int_equal(redis_reader_feed(&r, "$", 1, NULL), 0);
    assert_false(redis_reader_empty(&r));
    redis_reader_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_come_out_whole_however_they_are_cut),
        cmocka_unit_test(test_claims_are_refused_before_anything_is_allocated),
        cmocka_unit_test(test_what_is_not_the_protocol_is_refused),
        cmocka_unit_test(test_an_endless_reply_ends_at_the_limit),
        cmocka_unit_test(test_many_replies_in_one_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
