/* A question to a server on another thread: answers of both kinds, refusals, nonsense, silence, and no server at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>
#include "common/net.h"
#include "proto/probe.h"

enum answer {
    ANSWER_PONG,
    ANSWER_PARAMETER,
    ANSWER_PROTOTYPE,
    ANSWER_ERROR,
    ANSWER_NONSENSE,
    ANSWER_STOP_FIRST,
    SILENCE
};

struct stub_server {
    enum answer answer;
    char directory[64], endpoint[128];
    uv_loop_t loop;
    uv_async_t stop;
    uv_thread_t thread;
    struct net *net;
    struct net_socket *socket;
};

static void reply(struct stub_server *s, struct buf *peer, enum msg_type type)
{
    struct buf *frames[2 + MSG_TENSORS_MAX] = {peer};
    struct msg m;
    size_t n;
    msg_init(&m, type, "probed");
    m.generation = 3;
    m.step = 120;
    m.code = type == MSG_ERROR ? REASON_BAD_VERSION : 0;
    if (type == MSG_WELCOME)
        msg_add_scalar(&m, "total_steps", 500);
    if (type == MSG_WELCOME && s->answer == ANSWER_PROTOTYPE)
        msg_add_scalar(&m, "components", 8);
    if (msg_encode(&m, frames + 1, &n) == 0)
        net_send(s->socket, frames, 1 + n);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[1 + i]);
    msg_fini(&m);
}

static void on_question(void *arg, struct buf **frames, size_t n)
{
    struct stub_server *s = arg;
    struct msg m;
    enum reason why;
    if (n < 2 || msg_decode(frames + 1, n - 1, &m, &why, NULL) != 0)
        return;
    msg_fini(&m);
    if (s->answer == ANSWER_NONSENSE)
        net_send(s->socket, (struct buf *[]){frames[0], frames[0]}, 2);
    else if (s->answer == ANSWER_ERROR)
        reply(s, frames[0], MSG_ERROR);
    else if (s->answer == ANSWER_PARAMETER || s->answer == ANSWER_PROTOTYPE)
        reply(s, frames[0], MSG_WELCOME);
    if (s->answer == ANSWER_STOP_FIRST)
        reply(s, frames[0], MSG_STOP);
    if (s->answer == ANSWER_STOP_FIRST || s->answer == ANSWER_PONG)
        reply(s, frames[0], MSG_PONG);
}

static void on_stop(uv_async_t *stop)
{
    struct stub_server *s = stop->data;
    net_close(&s->socket);
    uv_close((uv_handle_t *)stop, NULL);
}

static void serve(void *arg)
{
    struct stub_server *s = arg;
    uv_run(&s->loop, UV_RUN_DEFAULT);
}

static struct stub_server *start(enum answer answer)
{
    struct stub_server *s = calloc(1, sizeof *s);
    struct error e = {0};
    assert_non_null(s);
    s->answer = answer;
    strcpy(s->directory, "/tmp/decant-probe-XXXXXX");
    assert_non_null(mkdtemp(s->directory));
    snprintf(s->endpoint, sizeof s->endpoint, "ipc://%s/s", s->directory);
    uv_loop_init(&s->loop);
    uv_async_init(&s->loop, &s->stop, on_stop);
    s->stop.data = s;
    assert_int_equal(net_new(&s->net, &e), 0);
    const struct net_options o = {.role = NET_ROUTER, .endpoint = s->endpoint, .message_bytes_max = 4096};
    assert_int_equal(net_open(s->net, &s->loop, &o, on_question, s, &s->socket, &e), 0);
    assert_int_equal(uv_thread_create(&s->thread, serve, s), 0);
    return s;
}

static void stop(struct stub_server *s)
{
    char path[96];
    uv_async_send(&s->stop);
    uv_thread_join(&s->thread);
    uv_loop_close(&s->loop);
    net_free(&s->net);
    snprintf(path, sizeof path, "%s/s", s->directory);
    unlink(path);
    rmdir(s->directory);
    free(s);
}

/* Asks a server that answers so. */
static int ask(enum answer answer, enum msg_type question, uint64_t timeout_ms, struct probe_answer *a, struct error *e)
{
    struct stub_server *s = start(answer);
    int rc = probe_ask(s->endpoint, NULL, question, timeout_ms, a, e);
    stop(s);
    return rc;
}

static void test_nobody(void **state)
{
    (void)state;
    struct probe_answer a;
    struct error e = {0};
    assert_int_equal(probe_ask("ipc:///tmp/decant-nobody-listens-here", NULL, MSG_PING, 50, &a, &e), ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "no answer within 0.05 s"));
    assert_int_equal(probe_ask("carrier-pigeon://x", NULL, MSG_PING, 50, &a, &e), ERR_IO);
    char long_endpoint[400];
    memset(long_endpoint, 'x', sizeof long_endpoint - 1);
    long_endpoint[sizeof long_endpoint - 1] = '\0';
    assert_int_equal(probe_ask(long_endpoint, NULL, MSG_PING, 50, &a, &e), ERR_RANGE);
}

static void test_silence(void **state)
{
    (void)state;
    struct probe_answer a;
    struct error e = {0};
    assert_int_equal(ask(SILENCE, MSG_PING, 100, &a, &e), ERR_NOT_FOUND);
}

static void test_pong(void **state)
{
    (void)state;
    struct probe_answer a;
    struct error e = {0};
    char line[PROBE_LINE_MAX];
    assert_int_equal(ask(ANSWER_PONG, MSG_PING, 20000, &a, &e), 0);
    assert_string_equal(probe_line(&a, line), "ok run=probed generation=3 step=120");
    assert_true(a.seconds > 0 && a.seconds < 20);
    assert_int_equal(ask(ANSWER_STOP_FIRST, MSG_PING, 20000, &a, &e), 0);
}

static void test_hello(void **state)
{
    (void)state;
    struct probe_answer a;
    struct error e = {0};
    char line[PROBE_LINE_MAX];
    assert_int_equal(ask(ANSWER_PROTOTYPE, MSG_HELLO, 20000, &a, &e), 0);
    assert_true(a.server == SERVER_PROTOTYPE && a.total_steps == 500);
    assert_int_equal(ask(ANSWER_PARAMETER, MSG_HELLO, 20000, &a, &e), 0);
    assert_string_equal(probe_line(&a, line), "ok run=probed generation=3 step=120 server=parameter");
}

static void test_refused(void **state)
{
    (void)state;
    struct probe_answer a;
    struct error e = {0};
    assert_int_equal(ask(ANSWER_ERROR, MSG_PING, 20000, &a, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "bad_version"));
    assert_int_equal(ask(ANSWER_NONSENSE, MSG_PING, 20000, &a, &e), ERR_FORMAT);
    assert_non_null(strstr(e.text, "not of our protocol"));
}

static void test_endpoints(void **state)
{
    (void)state;
    char out[PROBE_ENDPOINT_MAX];
    assert_int_equal(probe_endpoint("tcp://0.0.0.0:5701", out), 0);
    assert_string_equal(out, "tcp://127.0.0.1:5701");
    assert_int_equal(probe_endpoint("tcp://*:5701", out), 0);
    assert_string_equal(out, "tcp://127.0.0.1:5701");
    assert_int_equal(probe_endpoint("tcp://10.0.0.1:5701", out), 0);
    assert_string_equal(out, "tcp://10.0.0.1:5701");
    assert_int_equal(probe_endpoint("tcp://lo:5701", out), 0);
    assert_string_equal(out, "tcp://127.0.0.1:5701");
    assert_int_equal(probe_endpoint("tcp://[::1]:5701", out), 0);
    assert_string_equal(out, "tcp://[::1]:5701");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody), cmocka_unit_test(test_silence), cmocka_unit_test(test_pong),
        cmocka_unit_test(test_hello),  cmocka_unit_test(test_refused), cmocka_unit_test(test_endpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
