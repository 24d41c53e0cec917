/* Splitting, then one of four sources: "*", an interface, the resolver for numbers and names. */
#include "common/net_address.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_MAX = 256 };

struct parts {
    char host[HOST_MAX];
    char port[8];
    bool bracketed;
};

static int malformed(const char *text, struct error *e)
{
    return error_set(e, ERR_CONFIG, "'%.200s' is not HOST:PORT; an IPv6 address has brackets: [::1]:5701", text);
}

static bool is_port(const char *text, enum net_use use)
{
    size_t digits = strspn(text, "0123456789");
    if (use == NET_TO_BIND && strcmp(text, "*") == 0)
        return true;
    return digits > 0 && digits <= 5 && text[digits] == '\0' && atoi(text) <= 65535 &&
           (use == NET_TO_BIND || atoi(text) > 0);
}

static int split(const char *text, enum net_use use, struct parts *out, struct error *e)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    out->bracketed = n > 2 && text[0] == '[' && colon[-1] == ']';
    n -= out->bracketed ? 2 : 0;
    if (colon == NULL || n == 0 || n >= HOST_MAX || !is_port(colon + 1, use))
        return malformed(text, e);
    memcpy(out->host, text + out->bracketed, n);
    out->host[n] = '\0';
    if (!out->bracketed && strpbrk(out->host, ":[]"))
        return malformed(text, e);
    snprintf(out->port, sizeof out->port, "%s", strcmp(colon + 1, "*") == 0 ? "0" : colon + 1);
    return 0;
}

static bool same(const struct net_address *a, const struct net_address *b)
{
    return a->size == b->size && memcmp(&a->socket, &b->socket, a->size) == 0;
}

static void add(struct net_addresses *out, const struct sockaddr *socket, socklen_t size)
{
    struct net_address new = {.size = size};
    memcpy(&new.socket, socket, size);
    for (size_t i = 0; i < out->count; i++)
        if (same(&out->at[i], &new))
            return;
    if (out->count < NET_ADDRESSES_MAX)
        out->at[out->count++] = new;
}

/* ---- the sources ---- */

/* A socket of IPv6 takes connections of both kinds; a kernel without IPv6 has IPv4 alone. */
static void add_any(struct net_addresses *out)
{
    const struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    const struct sockaddr_in four = {.sin_family = AF_INET};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        add(out, (const struct sockaddr *)&six, sizeof six);
    else
        add(out, (const struct sockaddr *)&four, sizeof four);
    if (fd >= 0)
        close(fd);
}

static void add_if_usable(struct net_addresses *out, const struct sockaddr *address)
{
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)address;
    if (address->sa_family == AF_INET)
        add(out, address, sizeof(struct sockaddr_in));
    else if (address->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr))
        add(out, address, sizeof *six);
}

static int add_interface(struct net_addresses *out, const char *name, struct error *e)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        return error_set(e, ERR_IO, "interface %s: %s", name, strerror(errno));
    for (const struct ifaddrs *i = all; i; i = i->ifa_next)
        if (i->ifa_addr && strcmp(i->ifa_name, name) == 0)
            add_if_usable(out, i->ifa_addr);
    freeifaddrs(all);
    return out->count > 0 ? 0 : error_set(e, ERR_CONFIG, "interface %s has no address", name);
}

static int unknown_host(const char *host, int reason, struct error *e)
{
    bool later = reason == EAI_AGAIN || reason == EAI_SYSTEM || reason == EAI_MEMORY;
    return error_set(e, later ? ERR_IO : ERR_CONFIG, "no address of '%s': %s", host,
                     reason == EAI_SYSTEM ? strerror(errno) : gai_strerror(reason));
}

static int add_host(struct net_addresses *out, const struct parts *p, struct error *e)
{
    struct addrinfo hints = {.ai_family = p->bracketed ? AF_INET6 : AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    hints.ai_flags = AI_NUMERICSERV | (p->bracketed ? AI_NUMERICHOST : 0);
    int reason = getaddrinfo(p->host, p->port, &hints, &found);
    if (reason != 0)
        return unknown_host(p->host, reason, e);
    for (const struct addrinfo *i = found; i; i = i->ai_next)
        if (i->ai_family == AF_INET || i->ai_family == AF_INET6)
            add(out, i->ai_addr, i->ai_addrlen);
    freeaddrinfo(found);
    return out->count > 0 ? 0 : unknown_host(p->host, EAI_NONAME, e);
}

int net_resolve(const char *host_port, enum net_use use, struct net_addresses *out, struct error *e)
{
    struct parts p;
    out->count = 0;
    int rc = split(host_port, use, &p, e);
    if (rc != 0)
        return rc;
    if (strcmp(p.host, "*") == 0 && use == NET_TO_CONNECT)
        return error_set(e, ERR_CONFIG, "'%.200s' stands for all addresses of a server, not for one to connect to",
                         host_port);
    if (strcmp(p.host, "*") == 0)
        add_any(out);
    else if (use == NET_TO_BIND && net_address_is_interface(host_port))
        rc = add_interface(out, p.host, e);
    else
        rc = add_host(out, &p, e);
    for (size_t i = 0; i < out->count; i++)
        net_address_set_port(&out->at[i], (unsigned)atoi(p.port));
    return rc;
}

/* ---- what an address is ---- */

static const struct in6_addr *six_of(const struct net_address *a)
{
    return &((const struct sockaddr_in6 *)&a->socket)->sin6_addr;
}

static uint32_t four_of(const struct net_address *a)
{
    return ntohl(((const struct sockaddr_in *)&a->socket)->sin_addr.s_addr);
}

const char *net_address_text(const struct net_address *a, char out[NET_ADDRESS_TEXT])
{
    char host[NET_ADDRESS_TEXT - 10] = "?";
    bool six = a->socket.ss_family == AF_INET6;
    getnameinfo((const struct sockaddr *)&a->socket, a->size, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    snprintf(out, NET_ADDRESS_TEXT, "%s%s%s:%u", six ? "[" : "", host, six ? "]" : "", net_address_port(a));
    return out;
}

/* The port has the same place in both kinds. */
unsigned net_address_port(const struct net_address *a)
{
    return ntohs(((const struct sockaddr_in *)&a->socket)->sin_port);
}

void net_address_set_port(struct net_address *a, unsigned port)
{
    ((struct sockaddr_in *)&a->socket)->sin_port = htons((uint16_t)port);
}

bool net_address_is_loopback(const struct net_address *a)
{
    if (a->socket.ss_family == AF_INET)
        return four_of(a) >> 24 == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(six_of(a)) || (IN6_IS_ADDR_V4MAPPED(six_of(a)) && six_of(a)->s6_addr[12] == 127);
}

bool net_address_is_any(const struct net_address *a)
{
    return a->socket.ss_family == AF_INET ? four_of(a) == INADDR_ANY : IN6_IS_ADDR_UNSPECIFIED(six_of(a));
}

bool net_address_is_interface(const char *host_port)
{
    struct parts p;
    return split(host_port, NET_TO_BIND, &p, NULL) == 0 && !p.bracketed && if_nametoindex(p.host) != 0;
}

bool net_address_is_absent(int reason)
{
    return reason == EADDRNOTAVAIL || reason == EAFNOSUPPORT || reason == ENODEV;
}
