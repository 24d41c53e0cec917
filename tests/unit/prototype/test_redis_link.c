/* The connection against a server of this test's own on the same loop, that says whatever a stranger may say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "server/prototype/redis_link.h"

#define PING "*1\r\n$4\r\nPING\r\n"

struct rig {
    uv_loop_t loop;
    uv_pipe_t server, peer;
    bool accepted;
    const char *greeting; /* sent when somebody connects; NULL: nothing */
    const char *says;     /* sent at the first bytes that come */
    bool hangs_up;
    uv_write_t write;
    struct redis_address address;
    struct redis_link *link;
    unsigned pings; /* sent when the link is up */
    unsigned ups, replies, downs;
    bool close_at_reply;
    char kind[32], text[200], reply[64];
};

/* ---- the server ---- */

static void say(struct rig *r, const char *text)
{
    uv_buf_t b = uv_buf_init((char *)text, (unsigned)strlen(text));
    assert_int_equal(uv_write(&r->write, (uv_stream_t *)&r->peer, &b, 1, NULL), 0);
}

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    static char bytes[4096];
    (void)handle;
    (void)size;
    *out = uv_buf_init(bytes, sizeof bytes);
}

static void on_heard(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct rig *r = stream->data;
    (void)b;
    if (n > 0 && r->says != NULL)
        say(r, r->says);
    r->says = NULL;
    if (n > 0 && r->hangs_up && !uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, NULL);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct rig *r = server->data;
    assert_int_equal(status, 0);
    uv_pipe_init(&r->loop, &r->peer, 0);
    r->peer.data = r;
    assert_int_equal(uv_accept(server, (uv_stream_t *)&r->peer), 0);
    uv_read_start((uv_stream_t *)&r->peer, on_allocate, on_heard);
    if (r->greeting != NULL)
        say(r, r->greeting);
    r->accepted = true;
}

/* ---- the link ---- */

static void on_up(void *arg)
{
    struct rig *r = arg;
    r->ups++;
    for (unsigned i = 0; i < r->pings; i++)
        assert_true(redis_link_send(r->link, PING, strlen(PING)));
}

static void on_reply(void *arg, const redisReply *reply)
{
    struct rig *r = arg;
    r->replies++;
    snprintf(r->reply, sizeof r->reply, "%s", reply->str ? reply->str : "");
    if (r->close_at_reply)
        redis_link_close(&r->link);
}

static void on_down(void *arg, const char *kind, const char *text)
{
    struct rig *r = arg;
    r->link = NULL;
    r->downs++;
    snprintf(r->kind, sizeof r->kind, "%s", kind);
    snprintf(r->text, sizeof r->text, "%s", text);
}

static void begin(struct rig *r)
{
    const struct redis_link_options o = {
        .address = &r->address, .on_up = on_up, .on_reply = on_reply, .on_down = on_down, .arg = r};
    assert_int_equal(redis_link_open(&r->loop, &o, &r->link, NULL), 0);
}

static void run_until(struct rig *r, unsigned downs, unsigned replies)
{
    begin(r);
    while (r->downs < downs || r->replies < replies)
        uv_run(&r->loop, UV_RUN_ONCE);
}

static int open_rig(void **state)
{
    struct rig *r = calloc(1, sizeof *r);
    snprintf(r->address.host, sizeof r->address.host, "/tmp/decant-test-link-%d.sock", (int)getpid());
    unlink(r->address.host);
    uv_loop_init(&r->loop);
    uv_pipe_init(&r->loop, &r->server, 0);
    r->server.data = r;
    r->pings = 1;
    if (uv_pipe_bind(&r->server, r->address.host) != 0 || uv_listen((uv_stream_t *)&r->server, 8, on_connection) != 0)
        return -1;
    *state = r;
    return 0;
}

/* Everything that the link has taken is given back: the loop ends, and ASan sees no leak. */
static int close_rig(void **state)
{
    struct rig *r = *state;
    redis_link_close(&r->link);
    uv_close((uv_handle_t *)&r->server, NULL);
    if (r->accepted && !uv_is_closing((uv_handle_t *)&r->peer))
        uv_close((uv_handle_t *)&r->peer, NULL);
    uv_run(&r->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&r->loop);
    free(r);
    return rc;
}

static void test_a_reply_comes_back(void **state)
{
    struct rig *r = *state;
    r->says = "+PONG\r\n";
    run_until(r, 0, 1);
    assert_string_equal(r->reply, "PONG");
    assert_int_equal(r->ups, 1);
    assert_int_equal(r->downs, 0);
}

static void ends_with(struct rig *r, unsigned replies, const char *kind)
{
    run_until(r, 1, replies);
    assert_int_equal(r->replies, replies);
    assert_string_equal(r->kind, kind);
    assert_true(r->text[0] != '\0');
    assert_null(r->link);
}

static void test_whoever_speaks_first_is_cut_off(void **state)
{
    struct rig *r = *state;
    r->pings = 0;
    r->greeting = "+OK POP3 server ready\r\n";
    ends_with(r, 0, "unasked");
    assert_non_null(strstr(r->text, "POP3"));
}

static void test_a_reply_too_many_is_the_end(void **state)
{
    struct rig *r = *state;
    r->says = "+PONG\r\n+PONG\r\n";
    ends_with(r, 1, "unasked");
}

static void test_the_beginning_of_a_reply_too_many_too(void **state)
{
    struct rig *r = *state;
    r->says = "+PONG\r\n$40000";
    ends_with(r, 1, "unasked");
}

static void test_garbage_is_the_end(void **state)
{
    struct rig *r = *state;
    r->says = "HTTP/1.1 400 Bad Request\r\n\r\n";
    ends_with(r, 0, "protocol");
}

static void test_arrays_are_not_expected(void **state)
{
    struct rig *r = *state;
    r->says = "*2147483647\r\n";
    ends_with(r, 0, "protocol");
}

static void test_a_long_reply_is_the_end(void **state)
{
    struct rig *r = *state;
    char *says = malloc(8001);
    memset(says, 'x', 8000);
    memcpy(says, "$400000000000\r\n", 15);
    says[8000] = '\0';
    r->says = says;
    ends_with(r, 0, "protocol");
    assert_non_null(strstr(r->text, "4096"));
    free(says);
}

static void test_hanging_up_is_the_end(void **state)
{
    struct rig *r = *state;
    r->hangs_up = true;
    ends_with(r, 0, "closed");
}

static void test_nobody_there(void **state)
{
    struct rig *r = *state;
    strcat(r->address.host, ".absent");
    ends_with(r, 0, "connect");
    assert_int_equal(r->ups, 0);
}

static void test_a_name_that_is_none(void **state)
{
    struct rig *r = *state;
    strcpy(r->address.host, "no..name");
    r->address.port = 1;
    ends_with(r, 0, "name");
}

static void test_a_path_that_does_not_fit(void **state)
{
    struct rig *r = *state;
    const struct redis_link_options o = {.address = &r->address, .arg = r};
    struct error e;
    memset(r->address.host, 'x', sizeof r->address.host - 1);
    r->address.host[0] = '/';
    assert_int_equal(redis_link_open(&r->loop, &o, &r->link, &e), ERR_IO);
    assert_null(r->link);
}

static void test_closing_in_every_state(void **state)
{
    struct rig *r = *state;
    r->close_at_reply = true;
    r->says = "+PONG\r\n+PONG\r\n";
    run_until(r, 0, 1);
    assert_int_equal(r->downs, 0); /* the second reply has nobody to go to */
    begin(r);
    redis_link_close(&r->link); /* while it connects */
    strcpy(r->address.host, "localhost");
    r->address.port = 1;
    begin(r);
    redis_link_close(&r->link); /* while the name is looked up */
    redis_link_close(&r->link); /* NULL */
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, open_rig, close_rig)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_a_reply_comes_back),
        CASE(test_whoever_speaks_first_is_cut_off),
        CASE(test_a_reply_too_many_is_the_end),
        CASE(test_the_beginning_of_a_reply_too_many_too),
        CASE(test_garbage_is_the_end),
        CASE(test_arrays_are_not_expected),
        CASE(test_a_long_reply_is_the_end),
        CASE(test_hanging_up_is_the_end),
        CASE(test_nobody_there),
        CASE(test_a_name_that_is_none),
        CASE(test_a_path_that_does_not_fit),
        CASE(test_closing_in_every_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
