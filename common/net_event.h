/* What becomes of a socket's connections, as ZeroMQ's monitor tells it. Without these a wrong key looks like a server
 * that is down: sends succeed, nothing comes back. */
#ifndef DECANT_COMMON_NET_EVENT_H
#define DECANT_COMMON_NET_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <zmq.h>
#include "common/buf.h"

enum net_event_kind {
    NET_HANDSHAKE_DONE,
    NET_KEY_REFUSED,       /* the server knows our key as none of its own; a connecting socket gives up then */
    NET_HANDSHAKE_INVALID, /* one side has keys and the other none, or those of somebody else; gives up too */
    NET_HANDSHAKE_CUT,     /* the other side hung up meanwhile, often for the same reasons; tried again */
    NET_DISCONNECTED,      /* tried again by a connecting socket */
    NET_ACCEPTED,          /* bound sockets only, as the next one: somebody connects; the handshake comes now */
    NET_ACCEPT_FAILED,     /* mostly for want of descriptors */
};

struct net_event {
    enum net_event_kind kind;
    const char *endpoint; /* ours */
    int fd; /* ACCEPTED: of the connection; DISCONNECTED: what it had; owned by ZeroMQ, and perhaps another's by now;
               else -1 */
};

typedef void net_on_event(void *arg, const struct net_event *event);

enum {
    NET_EVENTS_WATCHED = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                         ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CONNECTED,
    NET_EVENTS_BOUND = NET_EVENTS_WATCHED | ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_ACCEPT_FAILED
};

/* The descriptor of a connection that either side has just opened, owned by ZeroMQ; -1 for any other event. */
int net_event_opened(struct buf *const *frames, size_t n);
/* The two frames of a monitor. False for an event that nobody is told of. */
bool net_event_decode(struct buf *const *frames, size_t n, const char *endpoint, struct net_event *out);
const char *net_event_name(enum net_event_kind kind); /* "key_refused" ... */

#endif
