/* Sockets on a loop: every message arrives whatever the edges of ZMQ_FD do, limits hold, closing never hangs. */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>
#include "common/net.h"
#include "common/net_address.h"

enum { FRAME_BYTES_MAX = 1 << 20, DEADLINE_MS = 20000 };

struct side { /* one socket and what it received */
    struct net_socket *socket;
    size_t received, bytes, frames_of_last;
    uint8_t peer[32];
    size_t peer_size;
    uint32_t last; /* first four bytes of the last frame */
    uint32_t out_of_order;
    bool echo; /* send every message back */
    bool close_on_first;
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t deadline;
    bool expired;
    struct net *net;
    char directory[64], endpoint[128];
};

static void on_deadline(uv_timer_t *timer)
{
    ((struct fixture *)timer->data)->expired = true;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct error e = {0};
    strcpy(f->directory, "/tmp/decant-net-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/s", f->directory);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    uv_timer_init(&f->loop, &f->deadline);
    f->deadline.data = f;
    uv_timer_start(&f->deadline, on_deadline, DEADLINE_MS, 0);
    assert_int_equal(net_new(&f->net, &e), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[96];
    uv_close((uv_handle_t *)&f->deadline, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    net_free(&f->net);
    assert_null(f->net);
    snprintf(path, sizeof path, "%s/s", f->directory);
    unlink(path);
    rmdir(f->directory);
    free(f);
    return 0;
}

static void on_message(void *arg, struct buf **frames, size_t n)
{
    struct side *s = arg;
    const struct buf *last = frames[n - 1];
    uint32_t number = 0;
    if (last->size >= sizeof number)
        memcpy(&number, last->data, sizeof number);
    s->out_of_order += s->received > 0 && number != s->last + 1;
    s->last = number;
    s->received++;
    s->frames_of_last = n;
    for (size_t i = 0; i < n; i++)
        s->bytes += frames[i]->size;
    if (frames[0]->size <= sizeof s->peer) {
        memcpy(s->peer, frames[0]->data, frames[0]->size);
        s->peer_size = frames[0]->size;
    }
    if (s->echo)
        net_send(s->socket, frames, n);
    if (s->close_on_first)
        net_close(&s->socket);
}

static void open_side(struct fixture *f, struct side *s, enum net_role role, const char *endpoint, int hwm)
{
    struct error e = {0};
    struct net_options o = {.role = role, .endpoint = endpoint, .message_bytes_max = FRAME_BYTES_MAX, .hwm = hwm};
    if (net_open(f->net, &f->loop, &o, on_message, s, &s->socket, &e))
        fail_msg("%s", e.text);
}

/* Runs the loop until *count reaches want. */
static void run_until(struct fixture *f, const size_t *count, size_t want)
{
    while (*count < want && !f->expired)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_int_equal(*count, want);
}

static int send_number(struct side *s, uint32_t number)
{
    struct buf *b = buf_copy(&number, sizeof number);
    int rc = net_send(s->socket, &b, 1);
    buf_unref(&b);
    return rc;
}

static void exchange(struct fixture *f, const char *endpoint)
{
    struct side server = {.echo = true}, client = {0};
    open_side(f, &server, NET_ROUTER, endpoint, 0);
    open_side(f, &client, NET_DEALER, net_endpoint(server.socket), 0);
    struct buf *frames[3] = {buf_copy("", 0), buf_copy("ab", 2), buf_new(100000)};
    memset(frames[2]->data, 7, frames[2]->size);
    assert_int_equal(net_send(client.socket, frames, 3), 0);
    run_until(f, &client.received, 1);
    assert_int_equal(client.frames_of_last, 3);
    assert_int_equal(server.frames_of_last, 4);
    assert_int_equal(client.bytes, 100002);
    assert_int_equal(net_socket_counters(client.socket)->sent, 1);
    assert_int_equal(net_socket_counters(client.socket)->bytes_in, 100002);
    for (int i = 0; i < 3; i++)
        buf_unref(&frames[i]);
    net_close(&client.socket);
    net_close(&server.socket);
    assert_null(server.socket);
}

static void test_exchange_over_every_transport(void **state)
{
    struct fixture *f = *state;
    exchange(f, f->endpoint);
    exchange(f, "tcp://127.0.0.1:*");
    exchange(f, "inproc://exchange");
}

/* A machine without IPv6 has fewer addresses, and the rest of this holds there as well. */
static void test_every_address_of_a_name_is_bound(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"localhost:*", "lo:*", "*:*", "127.0.0.1:*", "[::1]:*"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct net_addresses wanted;
        struct side server = {.echo = true};
        char endpoint[128], text[NET_ADDRESS_TEXT];
        struct error e = {0};
        assert_int_equal(net_resolve(names[i], NET_TO_BIND, &wanted, &e), 0);
        snprintf(endpoint, sizeof endpoint, "tcp://%s", names[i]);
        struct net_options o = {.role = NET_ROUTER, .endpoint = endpoint, .message_bytes_max = FRAME_BYTES_MAX};
        if (net_open(f->net, &f->loop, &o, on_message, &server, &server.socket, &e) != 0 && wanted.count == 1)
            continue; /* [::1] on a machine without it */
        assert_non_null(server.socket);
        unsigned port = (unsigned)atoi(strrchr(net_endpoint(server.socket), ':') + 1);
        for (size_t k = 0; k < wanted.count; k++) {
            struct side client = {0};
            net_address_set_port(&wanted.at[k], port);
            snprintf(endpoint, sizeof endpoint, "tcp://%s", net_address_text(&wanted.at[k], text));
            open_side(f, &client, NET_DEALER, endpoint, 0);
            assert_int_equal(send_number(&client, (uint32_t)k), 0);
            run_until(f, &client.received, 1);
            net_close(&client.socket);
        }
        net_close(&server.socket);
    }
    exchange(f, "tcp://localhost:*");
    exchange(f, "tcp://lo:*");
}

static void test_a_port_taken_on_one_address_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct side first = {0}, second = {0};
    struct error e = {0};
    char endpoint[64];
    open_side(f, &first, NET_ROUTER, "tcp://127.0.0.1:*", 0);
    snprintf(endpoint, sizeof endpoint, "tcp://lo%s", strrchr(net_endpoint(first.socket), ':'));
    struct net_options o = {.role = NET_ROUTER, .endpoint = endpoint, .message_bytes_max = FRAME_BYTES_MAX};
    assert_int_equal(net_open(f->net, &f->loop, &o, on_message, &second, &second.socket, &e), ERR_IO);
    assert_non_null(strstr(e.text, endpoint));
    o.endpoint = "tcp://nobody.invalid:1";
    assert_int_not_equal(net_open(f->net, &f->loop, &o, on_message, &second, &second.socket, &e), 0);
    assert_non_null(strstr(e.text, "no address of 'nobody.invalid'"));
    net_close(&first.socket);
}

static void test_bad_endpoint_is_an_error(void **state)
{
    struct fixture *f = *state;
    struct error e = {0};
    struct net_socket *s = NULL;
    struct net_options o = {.role = NET_ROUTER, .endpoint = "carrier-pigeon://x", .message_bytes_max = 1};
    assert_int_equal(net_open(f->net, &f->loop, &o, on_message, NULL, &s, &e), ERR_IO);
    assert_null(s);
    assert_non_null(strstr(e.text, "carrier-pigeon"));
    char longest[400];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    memcpy(longest, "ipc://", 6);
    o.endpoint = longest;
    assert_int_equal(net_open(f->net, &f->loop, &o, on_message, NULL, &s, &e), ERR_RANGE);
}

/* One edge of ZMQ_FD may stand for thousands of messages; the echo sends from inside the receive callback. */
static void test_all_of_2000_queued_messages_arrive(void **state)
{
    struct fixture *f = *state;
    struct side server = {.echo = true}, client = {0};
    open_side(f, &server, NET_ROUTER, f->endpoint, 4000);
    open_side(f, &client, NET_DEALER, f->endpoint, 4000);
    for (uint32_t i = 0; i < 2000; i++)
        assert_int_equal(send_number(&client, i), 0);
    run_until(f, &client.received, 2000);
    assert_int_equal(client.out_of_order, 0);
    assert_int_equal(server.received, 2000);
    net_close(&client.socket);
    net_close(&server.socket);
}

/* A request made before the server exists is queued, up to the high-water mark. */
static void test_dealer_queues_to_the_high_water_mark_while_the_server_is_away(void **state)
{
    struct fixture *f = *state;
    struct side server = {0}, client = {0};
    open_side(f, &client, NET_DEALER, f->endpoint, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(send_number(&client, i), 0);
    assert_int_equal(send_number(&client, 3), ERR_AGAIN);
    assert_int_equal(net_socket_counters(client.socket)->dropped, 1);
    open_side(f, &server, NET_ROUTER, f->endpoint, 3);
    run_until(f, &server.received, 3);
    assert_int_equal(server.last, 2);
    net_close(&client.socket);
    net_close(&server.socket);
}

/* Nobody reads: buffers wait, each counted once, up to the limit; small messages and a first large one always may. */
static void test_what_waits_is_bounded_in_bytes(void **state)
{
    struct fixture *f = *state;
    struct side client = {0};
    struct error e = {0};
    struct net_options o = {
        .role = NET_DEALER, .endpoint = f->endpoint, .message_bytes_max = FRAME_BYTES_MAX, .queued_bytes_max = 100000};
    assert_int_equal(net_open(f->net, &f->loop, &o, on_message, &client, &client.socket, &e), 0);
    struct buf *huge = buf_new(200000), *first = buf_new(60000), *second = buf_new(60000);
    assert_int_equal(net_send(client.socket, &huge, 1), 0);
    assert_int_equal(net_queued_bytes(f->net), 200000);
    assert_int_equal(net_send(client.socket, &first, 1), ERR_AGAIN);
    assert_int_equal(net_send(client.socket, &huge, 1), 0); /* the same bytes */
    assert_int_equal(net_queued_bytes(f->net), 200000);
    assert_int_equal(send_number(&client, 1), 0);
    net_close(&client.socket);
    while (net_queued_bytes(f->net) > 0 && !f->expired) { /* an I/O thread lets go of them, which wakes no loop */
        uv_run(&f->loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    assert_int_equal(net_queued_bytes(f->net), 0);
    assert_false(f->expired);
    assert_int_equal(net_open(f->net, &f->loop, &o, on_message, &client, &client.socket, &e), 0);
    assert_int_equal(net_send(client.socket, &first, 1), 0);
    assert_int_equal(net_send(client.socket, &second, 1), ERR_AGAIN);
    assert_int_equal(net_socket_counters(client.socket)->unqueued, 1);
    assert_int_equal(net_socket_counters(client.socket)->dropped, 1);
    net_close(&client.socket);
    buf_unref(&huge);
    buf_unref(&first);
    buf_unref(&second);
}

static void test_router_says_when_a_peer_is_unknown(void **state)
{
    struct fixture *f = *state;
    struct side server = {0};
    open_side(f, &server, NET_ROUTER, f->endpoint, 0);
    struct buf *frames[2] = {buf_copy("nobody", 6), buf_new(100000)};
    assert_int_equal(net_send(server.socket, frames, 2), ERR_AGAIN);
    assert_int_equal(net_socket_counters(server.socket)->dropped, 1);
    assert_int_equal(net_socket_counters(server.socket)->sent, 0);
    buf_unref(&frames[0]);
    buf_unref(&frames[1]);
    net_close(&server.socket);
}

/* inproc has no ZMQ_MAXMSGSIZE: the check is ours, of each frame. What comes after still arrives. */
static void test_message_over_the_limit_is_counted(void **state)
{
    struct fixture *f = *state;
    struct side server = {0}, client = {0};
    open_side(f, &server, NET_ROUTER, "inproc://limit", 0);
    open_side(f, &client, NET_DEALER, "inproc://limit", 0);
    struct buf *frames[2] = {buf_new(FRAME_BYTES_MAX), buf_new(FRAME_BYTES_MAX + 1)};
    memset(frames[0]->data, 0, frames[0]->size);
    memset(frames[1]->data, 0, frames[1]->size);
    assert_int_equal(net_send(client.socket, frames, 2), 0);
    assert_int_equal(net_send(client.socket, frames, 1), 0);
    assert_int_equal(send_number(&client, 1), 0);
    run_until(f, &server.received, 2);
    assert_int_equal(server.last, 1);
    assert_int_equal(net_socket_counters(server.socket)->oversized, 1);
    buf_unref(&frames[0]);
    buf_unref(&frames[1]);
    net_close(&client.socket);
    net_close(&server.socket);
}

/* Over a wire a frame above the limit costs the sender its connection; it comes back and goes on. */
static void test_frame_over_the_limit_never_arrives(void **state)
{
    struct fixture *f = *state;
    struct side server = {.echo = true}, client = {0};
    open_side(f, &server, NET_ROUTER, f->endpoint, 0);
    open_side(f, &client, NET_DEALER, f->endpoint, 0);
    struct buf *big = buf_new(FRAME_BYTES_MAX + 1);
    memset(big->data, 0, big->size);
    assert_int_equal(net_send(client.socket, &big, 1), 0);
    buf_unref(&big);
    for (uint32_t i = 1; client.received == 0 && !f->expired; i++) {
        send_number(&client, i); /* what was queued behind the big one went with the connection */
        for (int turn = 0; turn < 20 && client.received == 0; turn++) {
            uv_run(&f->loop, UV_RUN_NOWAIT);
            usleep(1000);
        }
    }
    assert_true(client.received > 0);
    assert_int_equal(server.frames_of_last, 2);
    assert_true(server.bytes < FRAME_BYTES_MAX);
    net_close(&client.socket);
    net_close(&server.socket);
}

static void test_too_many_frames_are_refused(void **state)
{
    struct fixture *f = *state;
    struct side server = {0}, client = {0};
    open_side(f, &server, NET_ROUTER, f->endpoint, 0);
    open_side(f, &client, NET_DEALER, f->endpoint, 0);
    struct buf *frames[NET_FRAMES_MAX];
    for (size_t i = 0; i < NET_FRAMES_MAX; i++)
        frames[i] = buf_copy("x", 1);
    assert_int_equal(net_send(client.socket, frames, NET_FRAMES_MAX), 0); /* with the routing id one too many */
    assert_int_equal(net_send(client.socket, frames, NET_FRAMES_MAX - 1), 0);
    run_until(f, &server.received, 1);
    assert_int_equal(server.frames_of_last, NET_FRAMES_MAX);
    assert_int_equal(net_socket_counters(server.socket)->oversized, 1);
    for (size_t i = 0; i < NET_FRAMES_MAX; i++)
        buf_unref(&frames[i]);
    net_close(&client.socket);
    net_close(&server.socket);
}

static void test_publication_reaches_the_subscribed_topic_only(void **state)
{
    struct fixture *f = *state;
    struct side server = {0}, client = {0};
    struct error e = {0};
    open_side(f, &server, NET_XPUB, f->endpoint, 0);
    open_side(f, &client, NET_SUB, f->endpoint, 0);
    assert_int_equal(net_subscribe(client.socket, "mixture", &e), 0);
    run_until(f, &server.received, 1); /* the subscription itself: 1 + topic */
    assert_int_equal(server.bytes, 8);
    struct buf *other[2] = {buf_copy("metrics", 7), buf_copy("m", 1)};
    struct buf *wanted[2] = {buf_copy("mixture", 7), buf_new(70000)};
    memset(wanted[1]->data, 0, wanted[1]->size);
    assert_int_equal(net_send(server.socket, other, 2), 0);
    assert_int_equal(net_send(server.socket, wanted, 2), 0);
    run_until(f, &client.received, 1);
    assert_int_equal(client.bytes, 70007);
    for (int i = 0; i < 2; i++) {
        buf_unref(&other[i]);
        buf_unref(&wanted[i]);
    }
    net_close(&client.socket);
    net_close(&server.socket);
}

static bool interrupting; /* every second look at ZMQ_EVENTS is interrupted, after it has swallowed the hint */

int zmq_getsockopt(void *socket, int option, void *value, size_t *size)
{
    static int (*real)(void *, int, void *, size_t *);
    static unsigned looks;
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "zmq_getsockopt");
    int rc = real(socket, option, value, size);
    if (rc != 0 || option != ZMQ_EVENTS || !interrupting || looks++ % 2)
        return rc;
    errno = EINTR;
    return -1;
}

/* A subscriber sends nothing that would make it look again. */
static void test_signals_lose_no_publication(void **state)
{
    enum { MESSAGES = 500 };
    struct fixture *f = *state;
    struct side server = {0}, client = {0};
    struct error e = {0};
    open_side(f, &server, NET_XPUB, f->endpoint, 2 * MESSAGES);
    open_side(f, &client, NET_SUB, f->endpoint, 2 * MESSAGES);
    assert_int_equal(net_subscribe(client.socket, "", &e), 0);
    run_until(f, &server.received, 1);
    interrupting = true;
    for (uint32_t i = 0; i < MESSAGES; i++)
        assert_int_equal(send_number(&server, i), 0);
    while (client.received < MESSAGES && !f->expired)
        uv_run(&f->loop, UV_RUN_ONCE);
    interrupting = false;
    net_close(&client.socket);
    net_close(&server.socket);
    assert_int_equal(client.received, MESSAGES);
    assert_int_equal(client.out_of_order, 0);
}

static void count_release(void *data, void *hint)
{
    free(data);
    atomic_fetch_add((_Atomic int *)hint, 1);
}

static void ignore_event(void *arg, const struct net_event *event)
{
    (void)arg;
    (void)event;
}

/* Connections of this process by local sockets whose send queue is wider than the one of a new socket. */
static size_t wide_connections(void)
{
    int fresh = socket(AF_UNIX, SOCK_STREAM, 0), normal = 0;
    socklen_t size = sizeof normal;
    size_t count = 0;
    assert_int_equal(getsockopt(fresh, SOL_SOCKET, SO_SNDBUF, &normal, &size), 0);
    close(fresh);
    for (int fd = 3; fd < 256; fd++) {
        int domain = 0, held = 0;
        socklen_t domain_size = sizeof domain, held_size = sizeof held;
        count += getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &domain_size) == 0 && domain == AF_UNIX &&
                 getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &held, &held_size) == 0 && held > normal;
    }
    return count;
}

static void test_both_sides_of_a_local_connection_queue_more(void **state)
{
    struct fixture *f = *state;
    struct side server = {.echo = true}, client = {0};
    struct net_options o = {
        .role = NET_ROUTER, .endpoint = f->endpoint, .message_bytes_max = -1, .on_event = ignore_event};
    assert_int_equal(net_open(f->net, &f->loop, &o, on_message, &server, &server.socket, NULL), 0);
    o.role = NET_DEALER;
    assert_int_equal(net_open(f->net, &f->loop, &o, on_message, &client, &client.socket, NULL), 0);
    assert_int_equal(wide_connections(), 0);
    assert_int_equal(send_number(&client, 1), 0);
    run_until(f, &client.received, 1);
    for (int i = 0; i < 100 && wide_connections() < 2; i++)
        uv_run(&f->loop, UV_RUN_NOWAIT);
    assert_int_equal(wide_connections(), 2);
    net_close(&server.socket);
    net_close(&client.socket);
}

/* Every reference that sending took is dropped: by the receiver's end, or by a close with messages still queued. */
static void test_close_with_queued_messages_does_not_hang_or_leak(void **state)
{
    struct fixture *f = *state;
    struct side client = {0};
    _Atomic int released = 0;
    open_side(f, &client, NET_DEALER, f->endpoint, 0);
    for (int i = 0; i < 10; i++) {
        struct buf *b = buf_wrap(calloc(1, 50000), 50000, count_release, &released);
        assert_int_equal(net_send(client.socket, &b, 1), 0);
        buf_unref(&b);
    }
    assert_int_equal(released, 0);
    net_close(&client.socket);
    uv_timer_stop(&f->deadline);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    net_free(&f->net);
    assert_int_equal(released, 10);
}

static void test_socket_may_be_closed_in_its_own_callback(void **state)
{
    struct fixture *f = *state;
    struct side server = {.close_on_first = true}, client = {0};
    open_side(f, &server, NET_ROUTER, f->endpoint, 0);
    open_side(f, &client, NET_DEALER, f->endpoint, 0);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(send_number(&client, i), 0);
    run_until(f, &server.received, 1);
    assert_null(server.socket);
    net_close(&client.socket);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_exchange_over_every_transport),
        CASE(test_every_address_of_a_name_is_bound),
        CASE(test_a_port_taken_on_one_address_is_an_error),
        CASE(test_bad_endpoint_is_an_error),
        CASE(test_all_of_2000_queued_messages_arrive),
        CASE(test_dealer_queues_to_the_high_water_mark_while_the_server_is_away),
        CASE(test_what_waits_is_bounded_in_bytes),
        CASE(test_router_says_when_a_peer_is_unknown),
        CASE(test_message_over_the_limit_is_counted),
        CASE(test_frame_over_the_limit_never_arrives),
        CASE(test_too_many_frames_are_refused),
        CASE(test_publication_reaches_the_subscribed_topic_only),
        CASE(test_signals_lose_no_publication),
        CASE(test_both_sides_of_a_local_connection_queue_more),
        CASE(test_close_with_queued_messages_does_not_hang_or_leak),
        CASE(test_socket_may_be_closed_in_its_own_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
