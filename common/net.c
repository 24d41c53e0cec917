/* ZeroMQ sockets on a libuv loop: the context, the adapter, receiving and sending, what is told of connections.
 *
 * The adapter. ZMQ_FD says "look at ZMQ_EVENTS", once, and any send or receive may swallow that hint. So the descriptor
 * only wakes the loop; whether there is input is looked up before the next poll, where any of them happened since the
 * last look (`stirred`; a look is two system calls, and most turns of a loop concern one of its sockets):
 *
 *      prepare   input waiting?  -> start idle, which keeps the poll from blocking
 *      poll      wakes when ZMQ_FD becomes readable
 *      check     receives up to TURN_MAX messages
 *
 * Closing. The four handles are closed first, the socket with the last of them: libuv must have let go of the
 * descriptor before ZeroMQ closes it. */
#include "common/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
#include "common/net_internal.h"
#include "common/socket_queue.h"

enum {
    IO_THREADS = 2,       /* they copy to and from the kernel: one filled a core long before the loop of a server did */
    SEND_QUEUE = 1 << 20, /* bytes: large messages go out in a few writes */
    TURN_MAX = 64,        /* messages of one socket before other handles of the loop get their turn */
    HANDLES = 4           /* poll, prepare, check, idle */
};

int net_new(struct net **out, struct error *e)
{
    struct net *n = calloc(1, sizeof *n);
    *out = n;
    if (!n)
        return error_set(e, ERR_MEMORY, "net: out of memory");
    n->context = zmq_ctx_new();
    if (n->context) {
        int rc = zmq_ctx_set(n->context, ZMQ_IO_THREADS, IO_THREADS);
        ASSERT(rc == 0);
        return 0;
    }
    free(n);
    *out = NULL;
    return error_set(e, ERR_IO, "net: no ZeroMQ context: %s", zmq_strerror(errno));
}

void net_free(struct net **n)
{
    if (!*n)
        return;
    while (zmq_ctx_term((*n)->context) && errno == EINTR)
        ;
    free(*n);
    *n = NULL;
}

/* ---- events ---- */

static void on_monitor(void *arg, struct buf **frames, size_t n)
{
    struct net_socket *s = arg;
    struct net_event event;
    int opened = net_event_opened(frames, n);
    if (opened >= 0)
        socket_queue_widen(opened, SEND_QUEUE);
    if (!s->closing && net_event_decode(frames, n, s->endpoint, &event))
        s->on_event(s->event_arg, &event);
}

/* Opened before the socket binds or connects, so that no event is missed. */
static int monitor_start(struct net *n, uv_loop_t *loop, struct net_socket *s, const struct net_options *o)
{
    char endpoint[64];
    struct net_options pair = {.role = NET_PAIR, .endpoint = endpoint, .message_bytes_max = -1};
    if (!o->on_event)
        return 0;
    s->on_event = o->on_event;
    s->event_arg = o->event_arg;
    snprintf(endpoint, sizeof endpoint, "inproc://monitor-%p", (void *)s);
    if (zmq_socket_monitor(s->zmq, endpoint, net_binds(o) ? NET_EVENTS_BOUND : NET_EVENTS_WATCHED))
        return -1;
    return net_open(n, loop, &pair, on_monitor, s, &s->monitor, NULL);
}

/* The one place where a ZeroMQ socket is made. */
static int socket_create(struct net *n, uv_loop_t *loop, struct net_socket *s, const struct net_options *o,
                         struct error *e)
{
    static const int types[] = {[NET_ROUTER] = ZMQ_ROUTER,
                                [NET_DEALER] = ZMQ_DEALER,
                                [NET_XPUB] = ZMQ_XPUB,
                                [NET_SUB] = ZMQ_SUB,
                                [NET_PAIR] = ZMQ_PAIR};
    s->zmq = zmq_socket(n->context, types[o->role]);
    if (s->zmq && !net_set_options(s->zmq, o) && !monitor_start(n, loop, s, o))
        return net_attach(s, o, e);
    return error_set(e, ERR_IO, "net: %s: %s", o->endpoint, zmq_strerror(errno));
}

/* ---- receiving ---- */

struct incoming {
    struct buf *frames[NET_FRAMES_MAX];
    size_t count, bytes;
    bool refused; /* the rest is read and dropped */
};

static void add_frame(const struct net_socket *s, struct incoming *in, zmq_msg_t *msg)
{
    size_t size = zmq_msg_size(msg);
    if (in->count == NET_FRAMES_MAX || (s->message_bytes_max >= 0 && size > (size_t)s->message_bytes_max))
        in->refused = true;
    in->bytes += size;
    if (in->refused) {
        zmq_msg_close(msg);
        return;
    }
    in->frames[in->count] = net_take_frame(msg);
    if (in->frames[in->count])
        in->count++;
    else
        in->refused = true;
}

static void note_sender(struct net_socket *s, zmq_msg_t *msg)
{
    const char *user = zmq_msg_gets(msg, "User-Id");
    snprintf(s->sender.user, sizeof s->sender.user, "%s", user ? user : "");
    s->sender.fd = zmq_msg_get(msg, ZMQ_SRCFD);
}

/* One whole multipart message; false when none is waiting. ZeroMQ hands over messages whole, so later frames are there.
 */
static bool receive_frames(struct net_socket *s, struct incoming *in)
{
    bool more = true;
    *in = (struct incoming){0};
    while (more) {
        zmq_msg_t msg;
        zmq_msg_init(&msg);
        if (zmq_msg_recv(&msg, s->zmq, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&msg);
            if (errno == EINTR)
                continue;
            in->refused = true; /* a message that ends before its last frame is not delivered */
            return in->count > 0;
        }
        more = zmq_msg_more(&msg);
        if (s->bound && !more)
            note_sender(s, &msg);
        add_frame(s, in, &msg);
    }
    return true;
}

static void deliver(struct net_socket *s, struct incoming *in)
{
    if (in->refused) {
        s->counters.oversized++;
    } else {
        s->counters.received++;
        s->counters.bytes_in += in->bytes;
        s->on_message(s->arg, in->frames, in->count);
    }
    for (size_t i = 0; i < in->count; i++)
        buf_unref(&in->frames[i]);
}

/* A look that a signal interrupts may have swallowed the hint already, so it is looked again. */
static bool input_waiting(const struct net_socket *s)
{
    int events = 0, failed;
    size_t size = sizeof events;
    do
        failed = zmq_getsockopt(s->zmq, ZMQ_EVENTS, &events, &size);
    while (failed && errno == EINTR);
    return failed || (events & ZMQ_POLLIN); /* any other failure shows itself in the next receive */
}

static void on_idle(uv_idle_t *idle)
{
    (void)idle; /* an active idle handle keeps the loop from blocking; it needs to do nothing else */
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct net_socket *s = poll->data;
    (void)status;
    (void)events;
    s->stirred = true; /* the check handle that follows receives */
}

static void on_prepare(uv_prepare_t *prepare)
{
    struct net_socket *s = prepare->data;
    if (!s->stirred)
        return;
    s->stirred = input_waiting(s); /* if none waits ZeroMQ will announce the next */
    if (s->stirred)
        uv_idle_start(&s->idle, on_idle);
    else
        uv_idle_stop(&s->idle);
}

static void on_check(uv_check_t *check)
{
    struct net_socket *s = check->data;
    struct incoming in;
    if (!s->stirred)
        return;
    for (int turn = 0; turn < TURN_MAX && !s->closing && receive_frames(s, &in); turn++)
        deliver(s, &in);
}

/* ---- opening and closing ---- */

/* Only uv_poll_init can fail, so it comes first. */
static int handles_start(uv_loop_t *loop, struct net_socket *s, struct error *e)
{
    int fd;
    size_t size = sizeof fd;
    if (zmq_getsockopt(s->zmq, ZMQ_FD, &fd, &size))
        return error_set(e, ERR_IO, "net: %s: no descriptor: %s", s->endpoint, zmq_strerror(errno));
    int rc = uv_poll_init(loop, &s->poll, fd);
    if (rc)
        return error_set(e, ERR_IO, "net: %s: cannot poll: %s", s->endpoint, uv_strerror(rc));
    uv_prepare_init(loop, &s->prepare);
    uv_check_init(loop, &s->check);
    uv_idle_init(loop, &s->idle);
    s->poll.data = s->prepare.data = s->check.data = s->idle.data = s;
    s->stirred = true; /* binding and connecting swallow hints too */
    s->open_handles = HANDLES;
    uv_poll_start(&s->poll, UV_READABLE, on_poll);
    uv_prepare_start(&s->prepare, on_prepare);
    uv_check_start(&s->check, on_check);
    return 0;
}

static void socket_free(struct net_socket *s)
{
    if (s->zmq)
        zmq_close(s->zmq);
    free(s);
}

int net_open(struct net *n, uv_loop_t *loop, const struct net_options *options, net_on_message *on_message, void *arg,
             struct net_socket **out, struct error *e)
{
    struct net_socket *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s)
        return error_set(e, ERR_MEMORY, "net: out of memory");
    s->message_bytes_max = options->message_bytes_max;
    s->on_message = on_message;
    s->arg = arg;
    s->bound = net_binds(options);
    s->queued_bytes_max = options->queued_bytes_max;
    s->sender.fd = -1;
    s->net = n;
    int rc = socket_create(n, loop, s, options, e);
    rc = rc ? rc : handles_start(loop, s, e);
    if (rc) {
        net_close(&s->monitor);
        socket_free(s);
    } else {
        *out = s;
    }
    return rc;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct net_socket *s = handle->data;
    if (--s->open_handles == 0)
        socket_free(s);
}

void net_close(struct net_socket **s)
{
    struct net_socket *closing = *s;
    *s = NULL;
    if (!closing)
        return;
    closing->closing = true;
    net_close(&closing->monitor);
    uv_close((uv_handle_t *)&closing->poll, on_handle_closed);
    uv_close((uv_handle_t *)&closing->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&closing->check, on_handle_closed);
    uv_close((uv_handle_t *)&closing->idle, on_handle_closed);
}

const char *net_endpoint(const struct net_socket *s)
{
    return s->endpoint;
}

const struct net_sender *net_sender(const struct net_socket *s)
{
    return &s->sender;
}

int net_subscribe(struct net_socket *s, const char *topic, struct error *e)
{
    s->stirred = true;
    if (zmq_setsockopt(s->zmq, ZMQ_SUBSCRIBE, topic, strlen(topic)))
        return error_set(e, ERR_IO, "net: %s: cannot subscribe to %s: %s", s->endpoint, topic, zmq_strerror(errno));
    return 0;
}

/* ---- sending ---- */

static int send_frame(struct net_socket *s, zmq_msg_t *msg, int flags)
{
    while (zmq_msg_send(msg, s->zmq, ZMQ_DONTWAIT | flags) < 0)
        if (errno != EINTR)
            return -1;
    return 0;
}

/* When the connection goes away in the middle of a message, ZeroMQ takes back what it had and swallows frames up to the
 * last one; so the rest is still offered, or the next message would lose its head. */
static int send_frames(struct net_socket *s, zmq_msg_t *msgs, size_t n)
{
    int failed = send_frame(s, &msgs[0], n > 1 ? ZMQ_SNDMORE : 0);
    if (failed)
        return failed;
    for (size_t i = 1; i < n; i++)
        failed |= send_frame(s, &msgs[i], i + 1 < n ? ZMQ_SNDMORE : 0);
    return failed;
}

static bool fits_queue(const struct net_socket *s, struct buf *const *frames, size_t n)
{
    size_t queued = atomic_load(&s->net->queued_bytes), more = 0;
    for (size_t i = 0; i < n; i++)
        more += frames[i]->size >= NET_ZERO_COPY_MIN && atomic_load(&frames[i]->queued) == 0 ? frames[i]->size : 0;
    return s->queued_bytes_max == 0 || more == 0 || queued == 0 || queued + more <= s->queued_bytes_max;
}

size_t net_queued_bytes(const struct net *n)
{
    return atomic_load(&n->queued_bytes);
}

int net_send(struct net_socket *s, struct buf *const *frames, size_t n)
{
    ASSERT(n > 0 && n <= NET_FRAMES_MAX);
    zmq_msg_t msgs[NET_FRAMES_MAX];
    size_t bytes;
    s->stirred = true;
    bool fits = fits_queue(s, frames, n);
    s->counters.unqueued += !fits;
    int failed = !fits || net_frames_to_zmq(s->net, frames, n, msgs, &bytes);
    if (!failed) {
        failed = send_frames(s, msgs, n);
        net_close_frames(msgs, n); /* those that were sent are empty now */
    }
    if (failed) {
        s->counters.dropped++;
        return ERR_AGAIN;
    }
    s->counters.sent++;
    s->counters.bytes_out += bytes;
    return 0;
}

const struct net_counters *net_socket_counters(const struct net_socket *s)
{
    return &s->counters;
}
