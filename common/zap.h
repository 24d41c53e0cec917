/* The authenticator of a ZeroMQ context (ZAP 1.0, RFC 27): asked about every CURVE handshake of every bound socket. It
 * is a socket on the loop like the others; ZeroMQ's I/O thread goes on meanwhile. Without one CURVE lets nobody in,
 * because our sockets enforce their domain. */
#ifndef DECANT_COMMON_ZAP_H
#define DECANT_COMMON_ZAP_H

#include "common/net.h"

/* Whether the owner of that public key (Z85) may come in; address is where from, for logs. An accepted key becomes the
 * user of its messages (net_sender). */
typedef bool zap_decide(void *arg, const char *key, const char *address);

struct zap {
    struct net_socket *socket;
    zap_decide *decide;
    void *arg;
};

/* One in a context, before any socket is bound. z stays where it is until zap_close and the loop's next turn. */
int zap_open(struct zap *z, struct net *n, uv_loop_t *loop, zap_decide *decide, void *arg, struct error *e);
void zap_close(struct zap *z); /* nothing when it is not open */

#endif
