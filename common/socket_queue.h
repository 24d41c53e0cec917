/* Whether the other side of a stream socket reads what it is sent. */
#ifndef DECANT_COMMON_SOCKET_QUEUE_H
#define DECANT_COMMON_SOCKET_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that the kernel still holds for the other side, and a number that changes when some get through: of TCP what
 * has been acknowledged, of a local socket, where nothing else can be known, what is held. False: it is no such
 * socket. */
bool socket_queue(int fd, size_t *queued, uint64_t *progress);

#endif
