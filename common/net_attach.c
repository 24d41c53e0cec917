/* What a ZeroMQ socket is told before it is used: every option explicitly, its keys, and where it binds or connects. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
#include "common/log.h"
#include "common/net_address.h"
#include "common/net_internal.h"

#ifndef ZMQ_ZAP_ENFORCE_DOMAIN
#define ZMQ_ZAP_ENFORCE_DOMAIN 93 /* the library takes it; its header shows it only to users of draft functions */
#endif

enum {
    HWM_DEFAULT = 64,
    PORT_TRIES = 8,  /* a port that the system chose for one address may be taken on the next one */
    LINGER_MS = 1000 /* for the last answers of a closing process; bounds net_free */
};

#define TCP "tcp://"

/* What follows the scheme; NULL for another one. */
static const char *tcp_address(const struct net_options *o)
{
    return strncmp(o->endpoint, TCP, sizeof TCP - 1) == 0 ? o->endpoint + sizeof TCP - 1 : NULL;
}

/* ---- options ---- */

bool net_binds(const struct net_options *o)
{
    return o->role == NET_ROUTER || o->role == NET_XPUB;
}

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
    return o->curve && o->curve->secret_key[0] != '\0' && tcp_address(o);
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
    if (!net_binds(o))
        return set_key(zmq, ZMQ_CURVE_SERVERKEY, o->curve->server_key) ||
               set_key(zmq, ZMQ_CURVE_PUBLICKEY, o->curve->public_key) ||
               set_key(zmq, ZMQ_CURVE_SECRETKEY, o->curve->secret_key);
    return set_ints(zmq, server, 2) || set_key(zmq, ZMQ_CURVE_SECRETKEY, o->curve->secret_key) ||
           zmq_setsockopt(zmq, ZMQ_ZAP_DOMAIN, NET_ZAP_DOMAIN, sizeof NET_ZAP_DOMAIN - 1);
}

int net_set_options(void *zmq, const struct net_options *o)
{
    return set_common(zmq, o) || set_role(zmq, o) || set_curve(zmq, o) ? -1 : 0;
}

/* ---- addresses ---- */

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

int net_attach(struct net_socket *s, const struct net_options *o, struct error *e)
{
    if (strlen(o->endpoint) >= sizeof s->endpoint)
        return error_set(e, ERR_RANGE, "net: %.80s...: the endpoint is too long", o->endpoint);
    strcpy(s->endpoint, o->endpoint);
    if (!net_binds(o))
        return connect_to(s, o, e);
    if (tcp_address(o))
        return bind_tcp(s, o, e);
    return bind_text(s, o->endpoint, s->endpoint, sizeof s->endpoint) ? attach_error(o->endpoint, e) : 0;
}
