/* ZeroMQ sockets on a libuv loop: the option list, the adapter, sending and receiving.
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
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
#include "common/log.h"
#include "common/net_address.h"

#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93 /* the library takes it; its header shows it only to users of draft functions */
#endif

enum {
    HWM_DEFAULT = 64,
    IO_THREADS = 2,  /* they copy to and from the kernel: one filled a core long before the loop of a server did */
    TURN_MAX = 64,   /* messages of one socket before other handles of the loop get their turn */
    HANDLES = 4,     /* poll, prepare, check, idle */
    PORT_TRIES = 8,  /* a port that the system chose for one address may be taken on the next one */
    LINGER_MS = 1000 /* for the last answers of a closing process; bounds net_free */
};

struct net {
    void *context;
    atomic_size_t
        queued_bytes; /* of large buffers that ZeroMQ holds, each of them once; its I/O threads let go of them */
};

/* A large frame on its way. */
struct sent {
    struct buf *b;
    struct net *net;
};

struct net_socket {
    void *zmq;
    uv_poll_t poll;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    unsigned open_handles; /* of the four */
    bool closing;          /* callbacks are not called any more */
    bool stirred;          /* input may wait that ZMQ_FD will not announce */
    bool bound;            /* senders are noted */
    struct net *net;
    size_t queued_bytes_max;
    struct net_sender sender;
    struct net_socket *monitor; /* of on_event; NULL without */
    net_on_event *on_event;
    void *event_arg;
    int64_t message_bytes_max;
    net_on_message *on_message;
    void *arg;
    char endpoint[256];
    struct net_counters counters;
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

/* ---- options ---- */

struct int_option {
    int option, value;
};

static int set_ints(void *zmq, const struct int_option *options, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (zmq_setsockopt(zmq, options[i].option, &options[i].value, sizeof options[i].value))
            return -1;
    return 0;
}

/* The options of every socket. None that matters is left to its default, which differs between versions of ZeroMQ. */
static int set_common(void *zmq, const struct net_options *o)
{
    int hwm = o->hwm ? o->hwm : HWM_DEFAULT;
    bool only_listens = o->role == NET_SUB || o->role == NET_PAIR; /* a subscription is owed to nobody */
    const struct int_option options[] = {
        {ZMQ_LINGER, only_listens ? 0 : LINGER_MS},
        {ZMQ_SNDHWM, hwm},
        {ZMQ_RCVHWM, hwm},
        {ZMQ_IMMEDIATE, 0}, /* requests made before the server is up wait for it, up to the high-water mark */
        {ZMQ_RECONNECT_IVL, 100},
        {ZMQ_RECONNECT_IVL_MAX, 1000}, /* a server that was restarted is found within about a second */
        {ZMQ_CONNECT_TIMEOUT, 5000},
        {ZMQ_HANDSHAKE_IVL, 10000},
        {ZMQ_HEARTBEAT_IVL, 2000}, /* finds half-open links that TCP reports after minutes */
        {ZMQ_HEARTBEAT_TIMEOUT, 10000},
        {ZMQ_HEARTBEAT_TTL, 10000},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_TCP_KEEPALIVE_IDLE, 30},
        {ZMQ_TCP_KEEPALIVE_INTVL, 10},
        {ZMQ_TCP_KEEPALIVE_CNT, 3},
        {ZMQ_BACKLOG, 1024},
    };
    if (set_ints(zmq, options, sizeof options / sizeof options[0]))
        return -1;
    return zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &o->message_bytes_max, sizeof o->message_bytes_max);
}

static int set_role(void *zmq, const struct net_options *o)
{
    static const struct int_option router[] = {
        {ZMQ_ROUTER_MANDATORY, 1}, /* say so when a peer is unknown */
        {ZMQ_ROUTER_HANDOVER, 0},  /* nobody takes over another's identity */
    };
    static const struct int_option xpub[] = {
        {ZMQ_XPUB_NODROP, 0},  /* a slow subscriber loses messages instead of holding up all */
        {ZMQ_XPUB_VERBOSE, 1}, /* whoever subscribes is known, also to what another has */
    };
    switch (o->role) {
    case NET_ROUTER:
        return set_ints(zmq, router, 2);
    case NET_XPUB:
        return set_ints(zmq, xpub, 2);
    case NET_DEALER:
        return o->identity ? zmq_setsockopt(zmq, ZMQ_ROUTING_ID, o->identity, strlen(o->identity)) : 0;
    case NET_SUB:
    case NET_PAIR:
        break;
    }
    return 0;
}

static bool uses_curve(const struct net_options *o)
{
    return o->curve && o->curve->secret_key[0] != '\0' && strncmp(o->endpoint, "tcp://", 6) == 0;
}

static bool binds(const struct net_options *o)
{
    return o->role == NET_ROUTER || o->role == NET_XPUB;
}

static int set_key(void *zmq, int option, const char *key)
{
    return zmq_setsockopt(zmq, option, key, NET_KEY_TEXT);
}

static int set_curve(void *zmq, const struct net_options *o)
{
    static const struct int_option server[] = {{ZMQ_CURVE_SERVER, 1}, {ZMQ_ZAP_ENFORCE_DOMAIN, 1}};
    if (!uses_curve(o))
        return 0;
    if (!binds(o))
        return set_key(zmq, ZMQ_CURVE_SERVERKEY, o->curve->server_key) ||
               set_key(zmq, ZMQ_CURVE_PUBLICKEY, o->curve->public_key) ||
               set_key(zmq, ZMQ_CURVE_SECRETKEY, o->curve->secret_key);
    return set_ints(zmq, server, 2) || set_key(zmq, ZMQ_CURVE_SECRETKEY, o->curve->secret_key) ||
           zmq_setsockopt(zmq, ZMQ_ZAP_DOMAIN, NET_ZAP_DOMAIN, sizeof NET_ZAP_DOMAIN - 1);
}

/* ---- addresses ---- */

#define TCP "tcp://"

static const char *tcp_address(const struct net_options *o)
{
    return strncmp(o->endpoint, TCP, sizeof TCP - 1) == 0 ? o->endpoint + sizeof TCP - 1 : NULL;
}

static int attach_error(const char *endpoint, struct error *e)
{
    return error_set(e, ERR_IO, "net: %s: %s. HINT: is the address right, and free if it is this process's own?",
                     endpoint, zmq_strerror(errno));
}

static int set_ipv6(void *zmq, bool on)
{
    return set_ints(zmq, &(struct int_option){ZMQ_IPV6, on}, 1);
}

/* With ZMQ_IPV6 a name means its first IPv6 address, and an IPv4 one only if it has no other. So names that have both
 * are asked for their IPv4 address, which every server on all addresses has; names that nobody knows yet may turn out
 * to be either. */
static bool connects_by_ipv6(const char *address)
{
    struct net_addresses found;
    if (net_resolve(address, NET_TO_CONNECT, &found, NULL) != 0)
        return true;
    for (size_t i = 0; i < found.count; i++)
        if (found.at[i].socket.ss_family == AF_INET)
            return false;
    return true;
}

static int connect_to(struct net_socket *s, const struct net_options *o, struct error *e)
{
    const char *address = tcp_address(o);
    int failed = set_ipv6(s->zmq, address && connects_by_ipv6(address)) || zmq_connect(s->zmq, o->endpoint);
    return failed ? attach_error(o->endpoint, e) : 0;
}

/* Fills endpoint with where it is bound. 0 or -1 with errno. */
static int bind_text(struct net_socket *s, const char *endpoint, char *out, size_t size)
{
    return zmq_bind(s->zmq, endpoint) || zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, out, &size) ? -1 : 0;
}

/* Port 0 becomes the one that the system chose. */
static int bind_one(struct net_socket *s, struct net_address *a, char *out, size_t size)
{
    char text[NET_ADDRESS_TEXT], endpoint[sizeof TCP + NET_ADDRESS_TEXT];
    snprintf(endpoint, sizeof endpoint, TCP "%s", net_address_text(a, text));
    if (set_ipv6(s->zmq, a->socket.ss_family == AF_INET6) || bind_text(s, endpoint, out, size))
        return -1;
    net_address_set_port(a, (unsigned)atoi(strrchr(out, ':') + 1));
    return 0;
}

/* All addresses that this machine has, on one port. Returns how many; -1 with errno, and then none. */
static int bind_each(struct net_socket *s, struct net_addresses *to)
{
    char bound[NET_ADDRESSES_MAX][sizeof s->endpoint];
    int count = 0, reason = EADDRNOTAVAIL;
    for (size_t i = 0; i < to->count; i++) {
        if (count > 0)
            net_address_set_port(&to->at[i], (unsigned)atoi(strrchr(bound[0], ':') + 1));
        if (bind_one(s, &to->at[i], bound[count], sizeof bound[0]) == 0) {
            count++;
            continue;
        }
        reason = errno;
        if (net_address_is_absent(reason))
            continue;
        while (count > 0)
            zmq_unbind(s->zmq, bound[--count]);
        break;
    }
    if (count > 0)
        memcpy(s->endpoint, bound[0], sizeof s->endpoint);
    for (int i = 0; to->count > 1 && i < count; i++)
        log_info("event=bound endpoint=%s", bound[i]);
    errno = reason;
    return count > 0 ? count : -1;
}

static int bind_tcp(struct net_socket *s, const struct net_options *o, struct error *e)
{
    struct net_addresses found, tried;
    struct error why = {0};
    int rc = net_resolve(tcp_address(o), NET_TO_BIND, &found, &why), count = -1;
    if (rc != 0)
        return error_set(e, rc, "net: %s: %s", o->endpoint, why.text);
    for (int i = 0; i < PORT_TRIES && count < 0; i++) {
        tried = found;
        count = bind_each(s, &tried);
        if (count < 0 && (errno != EADDRINUSE || net_address_port(&found.at[0]) != 0))
            break;
    }
    return count < 0 ? attach_error(o->endpoint, e) : 0;
}

static int attach(struct net_socket *s, const struct net_options *o, struct error *e)
{
    if (strlen(o->endpoint) >= sizeof s->endpoint)
        return error_set(e, ERR_RANGE, "net: %.80s...: the endpoint is too long", o->endpoint);
    strcpy(s->endpoint, o->endpoint);
    if (!binds(o))
        return connect_to(s, o, e);
    if (tcp_address(o))
        return bind_tcp(s, o, e);
    return bind_text(s, o->endpoint, s->endpoint, sizeof s->endpoint) ? attach_error(o->endpoint, e) : 0;
}

/* ---- events ---- */

static void on_monitor(void *arg, struct buf **frames, size_t n)
{
    struct net_socket *s = arg;
    struct net_event event;
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
    if (zmq_socket_monitor(s->zmq, endpoint, binds(o) ? NET_EVENTS_BOUND : NET_EVENTS_WATCHED))
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
    if (s->zmq && !set_common(s->zmq, o) && !set_role(s->zmq, o) && !set_curve(s->zmq, o) &&
        !monitor_start(n, loop, s, o))
        return attach(s, o, e);
    return error_set(e, ERR_IO, "net: %s: %s", o->endpoint, zmq_strerror(errno));
}

/* ---- receiving ---- */

static void release_received(void *data, void *hint)
{
    (void)data;
    zmq_msg_close(hint);
    free(hint);
}

/* A large frame stays where ZeroMQ put it. Consumes msg in every case. */
static struct buf *hold_frame(zmq_msg_t *msg)
{
    zmq_msg_t *held = malloc(sizeof *held);
    struct buf *b = NULL;
    if (held) {
        zmq_msg_init(held);
        zmq_msg_move(held, msg);
        b = buf_wrap(zmq_msg_data(held), zmq_msg_size(held), release_received, held);
        if (!b)
            release_received(NULL, held);
    }
    zmq_msg_close(msg);
    return b;
}

static struct buf *take_frame(zmq_msg_t *msg)
{
    if (zmq_msg_size(msg) >= NET_ZERO_COPY_MIN)
        return hold_frame(msg);
    struct buf *b = buf_copy(zmq_msg_data(msg), zmq_msg_size(msg));
    zmq_msg_close(msg);
    return b;
}

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
    in->frames[in->count] = take_frame(msg);
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
    s->bound = binds(options);
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

static void release_sent(void *data, void *hint)
{
    struct sent *sent = hint;
    (void)data;
    if (atomic_fetch_sub(&sent->b->queued, 1) == 1)
        atomic_fetch_sub(&sent->net->queued_bytes, sent->b->size);
    buf_unref(&sent->b);
    free(sent);
}

/* A large frame is passed on as it is. */
static int pass_to_zmq(struct net *net, struct buf *b, zmq_msg_t *msg)
{
    struct sent *sent = malloc(sizeof *sent);
    if (!sent || zmq_msg_init_data(msg, b->data, b->size, release_sent, sent)) {
        free(sent);
        return -1;
    }
    *sent = (struct sent){buf_ref(b), net};
    if (atomic_fetch_add(&b->queued, 1) == 0)
        atomic_fetch_add(&net->queued_bytes, b->size);
    return 0;
}

static int frame_to_zmq(struct net *net, struct buf *b, zmq_msg_t *msg)
{
    if (b->size >= NET_ZERO_COPY_MIN)
        return pass_to_zmq(net, b, msg);
    if (zmq_msg_init_size(msg, b->size))
        return -1;
    if (b->size > 0)
        memcpy(zmq_msg_data(msg), b->data, b->size);
    return 0;
}

static void close_frames(zmq_msg_t *msgs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        zmq_msg_close(&msgs[i]);
}

/* All frames are made before the first is sent, so that memory cannot run out in the middle of a message. */
static int frames_to_zmq(struct net *net, struct buf *const *frames, size_t n, zmq_msg_t *msgs, size_t *bytes)
{
    *bytes = 0;
    for (size_t i = 0; i < n; i++) {
        if (frame_to_zmq(net, frames[i], &msgs[i])) {
            close_frames(msgs, i);
            return -1;
        }
        *bytes += frames[i]->size;
    }
    return 0;
}

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
    int failed = !fits || frames_to_zmq(s->net, frames, n, msgs, &bytes);
    if (!failed) {
        failed = send_frames(s, msgs, n);
        close_frames(msgs, n); /* those that were sent are empty now */
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
