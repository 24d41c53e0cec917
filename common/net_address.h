/* Addresses as people write them in net.* and metrics.*, and what they mean on this machine.
 *
 *   127.0.0.1:5701   0.0.0.0:5701      IPv4
 *   [::1]:5701       [fe80::1%eth0]:0  IPv6, in brackets
 *   gpu-7:5701       localhost:*       a host name; to bind, all its addresses
 *   eth0:5701        lo:5701           to bind only: an interface, all its addresses but link-local ones
 *   *:5701                             to bind only: every address of both kinds
 *
 * PORT is a number; to bind, 0 or "*" lets the system choose. An interface comes before a host of the same name. Asking
 * the resolver may block for seconds, so this is for the start of a process. */
#ifndef DECANT_COMMON_NET_ADDRESS_H
#define DECANT_COMMON_NET_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include "common/error.h"

enum {
    NET_ADDRESSES_MAX = 16, /* more are left out */
    NET_ADDRESS_TEXT = 80   /* "[" 45 digits of IPv6 "%" 15 of an interface "]:65535" */
};

struct net_address {
    struct sockaddr_storage socket;
    socklen_t size;
};

struct net_addresses {
    size_t count; /* no address twice */
    struct net_address at[NET_ADDRESSES_MAX];
};

enum net_use { NET_TO_BIND, NET_TO_CONNECT };

/* ERR_CONFIG: not of these forms, or no such host; ERR_IO: the resolver has no answer now. count >= 1 after success. */
int net_resolve(const char *host_port, enum net_use use, struct net_addresses *out, struct error *e);
/* "127.0.0.1:5701" or "[::1]:5701". Returns out. */
const char *net_address_text(const struct net_address *a, char out[NET_ADDRESS_TEXT]);
unsigned net_address_port(const struct net_address *a);
void net_address_set_port(struct net_address *a, unsigned port);
/* Only this machine reaches it: 127.0.0.0/8 or ::1. */
bool net_address_is_loopback(const struct net_address *a);
/* Every address of the machine: 0.0.0.0 or ::. */
bool net_address_is_any(const struct net_address *a);
/* HOST is a network interface of this machine: a server can listen there, nobody can connect to that name. */
bool net_address_is_interface(const char *host_port);
/* A bind failed with this errno because the machine has no such address: another one of the same name may do. */
bool net_address_is_absent(int reason);

#endif
