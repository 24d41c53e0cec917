/* What the kernel holds of a stream socket for its other side, and whether that reads. */
#ifndef DECANT_COMMON_SOCKET_QUEUE_H
#define DECANT_COMMON_SOCKET_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that the kernel still holds for the other side, and a number that changes when some get through: of TCP what
 * has been acknowledged, of a local socket, where nothing else can be known, what is held. False: it is no such
 * socket. */
bool socket_queue(int fd, size_t *queued, uint64_t *progress);

/* Lets the kernel hold that many bytes of a local socket, as far as the system's net.core.wmem_max goes. By default it
 * is 208 KiB, so both sides of a large message wake each other many times, each time behind whoever computes. TCP
 * sizes its own queues and is left alone, as is a descriptor that is another's by now. */
void socket_queue_widen(int fd, int bytes);

#endif
