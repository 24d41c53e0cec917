/* The first words with a Redis: what is said, in which order, and who is believed; and how trouble is counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "server/prototype/mirror_greeting.h"
#include "server/prototype/mirror_trouble.h"

static const struct redis_address plain = {"there", 6379, 0, {"", ""}}, full = {"there", 6379, 3, {"me", "s3cret"}};

/* A command as its words with blanks between; "" when there is none. */
static const char *next(struct mirror_greeting *g, char out[256])
{
    struct redis_command c;
    redis_command_init(&c);
    out[0] = '\0';
    if (mirror_greeting_next(g, &c) && redis_command_end(&c) == 0) {
        char wire[256], *save = NULL;
        snprintf(wire, sizeof wire, "%.*s", (int)c.wire_size, c.wire);
        for (char *line = strtok_r(wire, "\r\n", &save); line != NULL; line = strtok_r(NULL, "\r\n", &save))
            if (line[0] != '*' && line[0] != '$')
                snprintf(out + strlen(out), 256 - strlen(out), "%s%s", out[0] ? " " : "", line);
    }
    redis_command_fini(&c);
    return out;
}

static enum greeting_verdict answer(struct mirror_greeting *g, int type, const char *text)
{
    char copy[512];
    snprintf(copy, sizeof copy, "%s", text);
    return mirror_greeting_take(g, &(redisReply){.type = type, .str = copy, .len = strlen(copy)});
}

static enum greeting_verdict inform(const char *info, struct mirror_greeting *g)
{
    char words[256];
    mirror_greeting_begin(g, &plain, 1000);
    assert_string_equal(next(g, words), "INFO");
    return answer(g, REDIS_REPLY_STRING, info);
}

static void test_only_what_is_needed_is_said(void **state)
{
    struct mirror_greeting g;
    char words[256];
    (void)state;
    assert_int_equal(inform("redis_version:7.0.15\r\n", &g), GREETING_FINE);
    assert_string_equal(next(&g, words), "");
    assert_string_equal(g.judgement.version, "7.0.15");
    mirror_greeting_begin(&g, &full, 1000);
    assert_string_equal(next(&g, words), "AUTH me s3cret");
    assert_int_equal(answer(&g, REDIS_REPLY_STATUS, "OK"), GREETING_FINE);
    assert_string_equal(next(&g, words), "SELECT 3");
    assert_int_equal(answer(&g, REDIS_REPLY_STATUS, "OK"), GREETING_FINE);
    assert_string_equal(next(&g, words), "INFO");
}

static void test_a_refused_login_is_over(void **state)
{
    struct mirror_greeting g;
    char words[256];
    (void)state;
    mirror_greeting_begin(&g, &full, 1000);
    next(&g, words);
    assert_int_equal(answer(&g, REDIS_REPLY_ERROR, "WRONGPASS invalid username-password pair"), GREETING_REFUSED);
    assert_string_equal(g.kind, "login");
    assert_non_null(strstr(g.advice, "password"));
    mirror_greeting_begin(&g, &plain, 1000);
    next(&g, words);
    assert_int_equal(answer(&g, REDIS_REPLY_ERROR, "NOAUTH Authentication required."), GREETING_REFUSED);
    assert_non_null(strstr(g.advice, "DECANT_REDIS_PASSWORD"));
}

static void test_a_stranger_is_not_believed(void **state)
{
    static const int types[] = {REDIS_REPLY_STATUS, REDIS_REPLY_INTEGER, REDIS_REPLY_NIL};
    struct mirror_greeting g;
    char words[256];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        mirror_greeting_begin(&g, &plain, 1000);
        next(&g, words);
        assert_int_equal(answer(&g, types[i], "OK mail.example.org ready"), GREETING_REFUSED);
        assert_string_equal(g.kind, "stranger");
    }
    mirror_greeting_begin(&g, &full, 1000);
    next(&g, words);
    assert_int_equal(answer(&g, REDIS_REPLY_STRING, "hello"), GREETING_REFUSED);
}

static void test_what_takes_no_update_is_unfit(void **state)
{
    struct mirror_greeting g;
    (void)state;
    assert_int_equal(inform("redis_version:7.0.15\r\ncluster_enabled:1\r\n", &g), GREETING_UNFIT);
    assert_non_null(strstr(g.text, "cluster"));
    assert_true(g.advice[0] != '\0');
    assert_int_equal(inform("redis_version:7.0.15\r\nrole:slave\r\n", &g), GREETING_UNFIT);
    assert_int_equal(inform("hello", &g), GREETING_UNFIT);
    assert_int_equal(inform("redis_version:7.0.15\r\nmaxmemory:2\r\nused_memory:1\r\n", &g), GREETING_FINE);
    assert_int_equal(g.judgement.fitness, REDIS_TIGHT);
}

/* An ACL of before may lack INFO: the mirror worked with it. */
static void test_without_info_it_is_taken_on_trust(void **state)
{
    struct mirror_greeting g;
    char words[256];
    (void)state;
    mirror_greeting_begin(&g, &plain, 1000);
    next(&g, words);
    assert_int_equal(answer(&g, REDIS_REPLY_ERROR, "NOPERM this user has no permissions to run 'info'"), GREETING_FINE);
    assert_true(g.unjudged);
    assert_string_equal(next(&g, words), "");
}

/* ---- trouble ---- */

static void test_each_kind_is_logged_when_its_count_has_doubled(void **state)
{
    struct mirror_trouble t = {0};
    size_t logged = 0;
    (void)state;
    for (uint64_t i = 1; i <= 1000; i++) {
        uint64_t count = mirror_trouble_note(&t, "OOM");
        assert_true(count == 0 || count == i);
        logged += count > 0;
    }
    assert_int_equal(logged, 10); /* 1, 2, 4 ... 512 */
    assert_int_equal(mirror_trouble_note(&t, "MOVED"), 1);
}

static void test_invented_kinds_share_one_count(void **state)
{
    struct mirror_trouble t = {0};
    size_t logged = 0;
    (void)state;
    for (int i = 0; i < 10000; i++) {
        char kind[TROUBLE_KIND_MAX];
        snprintf(kind, sizeof kind, "K%d", i);
        logged += mirror_trouble_note(&t, kind) > 0;
    }
    assert_in_range(logged, 1, 2 * TROUBLE_KINDS);
}

static void test_kinds_and_texts_of_replies(void **state)
{
    char kind[TROUBLE_KIND_MAX], text[TROUBLE_TEXT_MAX], longest[500];
    (void)state;
    mirror_trouble_kind("OOM command not allowed", kind);
    assert_string_equal(kind, "OOM");
    mirror_trouble_kind("MOVED", kind);
    assert_string_equal(kind, "MOVED");
    mirror_trouble_kind("no capitals", kind);
    assert_string_equal(kind, "ERR");
    mirror_trouble_kind("", kind);
    assert_string_equal(kind, "ERR");
    mirror_trouble_kind("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA b", kind);
    assert_string_equal(kind, "ERR");
    assert_string_equal(mirror_trouble_text("say \"x\\\" \033[2J\xff", text), "say 'x'' ?[2J?");
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(strlen(mirror_trouble_text(longest, text)), TROUBLE_TEXT_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_is_needed_is_said),
        cmocka_unit_test(test_a_refused_login_is_over),
        cmocka_unit_test(test_a_stranger_is_not_believed),
        cmocka_unit_test(test_what_takes_no_update_is_unfit),
        cmocka_unit_test(test_without_info_it_is_taken_on_trust),
        cmocka_unit_test(test_each_kind_is_logged_when_its_count_has_doubled),
        cmocka_unit_test(test_invented_kinds_share_one_count),
        cmocka_unit_test(test_kinds_and_texts_of_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
