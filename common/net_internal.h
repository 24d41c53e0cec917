/* Inside the sockets only: their state, and what their files call of each other.
 *
 *   net.c         the context, sockets on the loop: opening, receiving, sending, closing
 *   net_attach.c  options, keys, and where a socket binds or connects
 *   net_frames.c  buffers to and from ZeroMQ's messages */
#ifndef DECANT_COMMON_NET_INTERNAL_H
#define DECANT_COMMON_NET_INTERNAL_H

#include <stdatomic.h>
#include <zmq.h>
#include "common/net.h"

struct net {
    void *context;
    atomic_size_t
        queued_bytes; /* of large buffers that ZeroMQ holds, each of them once; its I/O threads let go of them */
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

bool net_binds(const struct net_options *o); /* false: it connects */

/* Every option of a new socket but its subscriptions and ZMQ_IPV6, which hangs on the address. 0, or -1 with errno. */
int net_set_options(void *zmq, const struct net_options *o);
/* Binds or connects, and sets s->endpoint. 0, ERR_RANGE, ERR_IO, or what net_resolve returns. */
int net_attach(struct net_socket *s, const struct net_options *o, struct error *e);

/* What a message holds; from NET_ZERO_COPY_MIN on it stays where ZeroMQ put it. Consumes msg; NULL without memory. */
struct buf *net_take_frame(zmq_msg_t *msg);
/* Fills n messages, which the caller closes, and counts their bytes. All are made before the first is sent, so that
 * memory cannot run out in the middle of a message. 0, or -1 and none is open. */
int net_frames_to_zmq(struct net *net, struct buf *const *frames, size_t n, zmq_msg_t *msgs, size_t *bytes);
/* Lets go of n messages; one that was sent is empty by then. */
void net_close_frames(zmq_msg_t *msgs, size_t n);

#endif
