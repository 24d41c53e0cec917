/* ZeroMQ sockets on a libuv loop. One function creates every socket and sets every option explicitly; one adapter turns
 * the edge-triggered ZMQ_FD into complete multipart messages (uv_poll + uv_prepare/uv_check + uv_idle while events
 * remain, bounded messages per turn). All calls from the loop's thread.
 *
 * What a user may rely on: a DEALER queues up to `hwm` messages while its server is away and sends them when it is
 * back, so a request may arrive late or, after a lost connection, not at all: ask again. A ROUTER never queues for a
 * peer that is gone. An XPUB drops for a subscriber that lags by `hwm` messages, and for all of them while those that
 * lag hold `queued_bytes_max`. A frame above the size limit costs a remote sender its connection (ZeroMQ drops it and
 * the sender reconnects); within a process, where there is no connection, the message is refused and counted.
 *
 * tcp:// endpoints are those of common/net_address.h. A bound socket listens on every address of its name that this
 * machine has, on one port; a name that is connected to means its IPv4 address, or the IPv6 one when it has no other.
 *
 * With keys a tcp:// socket speaks CURVE only. A bound one lets in whom the ZAP handler of its context lets in
 * (common/zap.h), and nobody while there is none; so open that one first. ipc:// and inproc:// stay as they are: the
 * file system says who reaches them. */
#ifndef DECANT_COMMON_NET_H
#define DECANT_COMMON_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>
#include "common/buf.h"
#include "common/error.h"
#include "common/net_event.h"

enum {
    NET_FRAMES_MAX = 16,      /* of one multipart message, routing id included; more are refused and counted */
    NET_ZERO_COPY_MIN = 4096, /* bytes from which a frame is passed on instead of copied */
    NET_KEY_TEXT = 41         /* a CURVE key in Z85, with its NUL */
};
#define NET_ZAP_DOMAIN "decant"

enum net_role { NET_ROUTER, NET_DEALER, NET_XPUB, NET_SUB, NET_PAIR };

/* Z85 texts; an empty secret_key means no CURVE. A socket keeps its own copy inside ZeroMQ. */
struct net_curve {
    char public_key[NET_KEY_TEXT], secret_key[NET_KEY_TEXT];
    char server_key[NET_KEY_TEXT]; /* whom a connecting socket expects; nobody else can answer it */
};

/* Who sent a message. */
struct net_sender {
    char user[NET_KEY_TEXT]; /* what the ZAP handler called them: their public key; empty without CURVE */
    int fd;                  /* of their connection, at bound sockets; owned by ZeroMQ; -1 when unknown */
};

struct net_options {
    enum net_role role;
    const char *endpoint;          /* ROUTER and XPUB bind, DEALER, SUB and PAIR connect */
    int64_t message_bytes_max;     /* of each frame (ZMQ_MAXMSGSIZE); -1 for no limit */
    size_t queued_bytes_max;       /* of buffers that wait in ZeroMQ when this socket adds one; 0: no limit */
    int hwm;                       /* send and receive high-water mark, messages; 0 means the default of 64 */
    const char *identity;          /* DEALER: routing id, or NULL for a random one */
    const struct net_curve *curve; /* of tcp:// endpoints; NULL for none */
    net_on_event *on_event;        /* told what becomes of connections, on the loop; NULL when nobody needs to know */
    void *event_arg;
};

struct net; /* one ZeroMQ context */
struct net_socket;

/* frames: n buffers that are valid during the call (take references to keep them). ROUTER: frames[0] is the routing id.
 * XPUB: one frame, subscription byte + topic. */
typedef void net_on_message(void *arg, struct buf **frames, size_t n);

int net_new(struct net **out, struct error *e);
size_t net_queued_bytes(const struct net *n); /* in buffers of NET_ZERO_COPY_MIN bytes and more */
void net_free(struct net **n);                /* after every socket's close callback; bounded by linger */

int net_open(struct net *n, uv_loop_t *loop, const struct net_options *options, net_on_message *on_message, void *arg,
             struct net_socket **out, struct error *e);
/* The endpoint bound to (with the port that the system chose for "tcp://host:*"); of several addresses the first. */
const char *net_endpoint(const struct net_socket *s);
/* The sender of the message that on_message is being called for. */
const struct net_sender *net_sender(const struct net_socket *s);
int net_subscribe(struct net_socket *s, const char *topic, struct error *e);
/* Sends n >= 1 frames without copying those of NET_ZERO_COPY_MIN bytes and more: takes its own references, which
 * ZeroMQ's I/O thread drops, so that `release` of a wrapped buffer may run there. 0; ERR_AGAIN at the high-water
 * mark, for a peer that is gone (ROUTER), or when frames of that size would go beyond queued_bytes_max; counted.
 * Whole message or nothing. A buffer that waits for several peers, or sockets of one net, counts once, until the last
 * of them has it; one message larger than the limit is let through while nothing else waits. */
int net_send(struct net_socket *s, struct buf *const *frames, size_t n);
void net_close(struct net_socket **s); /* closes asynchronously; memory is released on the loop */

struct net_counters {
    uint64_t received, sent; /* messages */
    uint64_t dropped;        /* sends that returned ERR_AGAIN */
    uint64_t unqueued;       /* of these: for queued_bytes_max */
    uint64_t oversized;      /* received messages refused: a frame too large, too many frames, no memory */
    uint64_t bytes_in, bytes_out;
};
const struct net_counters *net_socket_counters(const struct net_socket *s);

#endif
