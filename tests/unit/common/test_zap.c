/* CURVE sockets on a loop with the authenticator beside them: who is let in is known by their key, who is not learns
 * so, and without an authenticator nobody is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <zmq.h>
#include "common/zap.h"

enum { DEADLINE_MS = 20000 };

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool expired;
    struct net *net;
    struct zap zap;
    struct net_socket *server, *client;
    struct net_curve server_keys, client_keys;
    char listed[NET_KEY_TEXT]; /* the one that is let in */
    unsigned asked, received, events[NET_DISCONNECTED + 1];
    struct net_sender sender;
};

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->expired = true;
}

static bool decide(void *arg, const char *key, const char *address)
{
    struct fixture *f = arg;
    f->asked++;
    assert_string_equal(address, "127.0.0.1");
    return strcmp(key, f->listed) == 0;
}

static void on_message(void *arg, struct buf **frames, size_t n)
{
    struct fixture *f = arg;
    (void)frames;
    (void)n;
    f->received++;
    f->sender = *net_sender(f->server);
}

static void on_event(void *arg, const struct net_event *event)
{
    ((struct fixture *)arg)->events[event->kind]++;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error e = {0};
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0);
    assert_int_equal(net_new(&f->net, &e), 0);
    assert_int_equal(zmq_curve_keypair(f->server_keys.public_key, f->server_keys.secret_key), 0);
    assert_int_equal(zmq_curve_keypair(f->client_keys.public_key, f->client_keys.secret_key), 0);
    strcpy(f->client_keys.server_key, f->server_keys.public_key);
    strcpy(f->listed, f->client_keys.public_key);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    net_close(&f->client);
    net_close(&f->server);
    zap_close(&f->zap);
    uv_close((uv_handle_t *)&f->deadline, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    net_free(&f->net);
    free(f);
    return 0;
}

static void authenticate(struct fixture *f)
{
    struct error e = {0};
    if (zap_open(&f->zap, f->net, &f->loop, decide, f, &e) != 0)
        fail_msg("%s", e.text);
}

/* The server, then a client that sends one message at once. */
static void connect_both(struct fixture *f)
{
    struct error e = {0};
    struct net_options server = {
        .role = NET_ROUTER, .endpoint = "tcp://127.0.0.1:*", .message_bytes_max = 1024, .curve = &f->server_keys};
    if (net_open(f->net, &f->loop, &server, on_message, f, &f->server, &e) != 0)
        fail_msg("%s", e.text);
    struct net_options client = {.role = NET_DEALER,
                                 .endpoint = net_endpoint(f->server),
                                 .message_bytes_max = 1024,
                                 .curve = &f->client_keys,
                                 .on_event = on_event,
                                 .event_arg = f};
    if (net_open(f->net, &f->loop, &client, on_message, f, &f->client, &e) != 0)
        fail_msg("%s", e.text);
    struct buf *b = buf_copy("hello", 5);
    assert_int_equal(net_send(f->client, &b, 1), 0);
    buf_unref(&b);
}

static void run_until(struct fixture *f, const unsigned *count)
{
    while (*count == 0 && !f->expired)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_true(*count > 0);
}

static void test_a_listed_key_comes_in_and_is_known(void **state)
{
    struct fixture *f = *state;
    authenticate(f);
    connect_both(f);
    run_until(f, &f->received);
    assert_string_equal(f->sender.user, f->client_keys.public_key);
    assert_true(f->sender.fd >= 0);
    run_until(f, &f->events[NET_HANDSHAKE_DONE]);
    assert_int_equal(f->asked, 1);
}

static void test_another_key_is_told_that_it_is_refused(void **state)
{
    struct fixture *f = *state;
    authenticate(f);
    f->listed[0] ^= 1;
    connect_both(f);
    run_until(f, &f->events[NET_KEY_REFUSED]);
    assert_int_equal(f->received, 0);
    assert_true(f->asked > 0);
}

static void test_without_an_authenticator_nobody_comes_in(void **state)
{
    struct fixture *f = *state;
    connect_both(f);
    while (f->events[NET_HANDSHAKE_CUT] + f->events[NET_HANDSHAKE_INVALID] + f->events[NET_KEY_REFUSED] == 0 &&
           !f->expired)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_false(f->expired);
    assert_int_equal(f->received, 0);
    assert_int_equal(f->events[NET_HANDSHAKE_DONE], 0);
}

static void test_a_client_without_keys_does_not_come_in(void **state)
{
    struct fixture *f = *state;
    authenticate(f);
    f->client_keys.secret_key[0] = '\0';
    connect_both(f);
    while (f->events[NET_HANDSHAKE_CUT] + f->events[NET_HANDSHAKE_INVALID] == 0 && !f->expired)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_false(f->expired);
    assert_int_equal(f->received + f->asked, 0);
}

static void test_a_server_with_another_key_hears_nothing(void **state)
{
    struct fixture *f = *state;
    struct net_curve other;
    authenticate(f);
    assert_int_equal(zmq_curve_keypair(other.public_key, other.secret_key), 0);
    strcpy(f->client_keys.server_key, other.public_key);
    connect_both(f);
    run_until(f, &f->events[NET_HANDSHAKE_CUT]);
    assert_int_equal(f->received + f->asked, 0);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_a_listed_key_comes_in_and_is_known),       CASE(test_another_key_is_told_that_it_is_refused),
        CASE(test_without_an_authenticator_nobody_comes_in), CASE(test_a_client_without_keys_does_not_come_in),
        CASE(test_a_server_with_another_key_hears_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
