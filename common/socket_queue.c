/* Apart from its users because <linux/tcp.h>, which alone has the whole tcp_info, cannot be included beside
 * <netinet/tcp.h>, which libuv includes. */
#include "common/socket_queue.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

bool socket_queue(int fd, size_t *queued, uint64_t *progress)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    int held = 0;
    if (ioctl(fd, SIOCOUTQ, &held) != 0 || held < 0)
        return false;
    *queued = (size_t)held;
    *progress = (uint64_t)held;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_bytes_acked > 0)
        *progress = info.tcpi_bytes_acked;
    return true;
}

void socket_queue_widen(int fd, int bytes)
{
    int domain = 0, held = 0;
    socklen_t size = sizeof domain, held_size = sizeof held;
    bool local = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
    if (local && getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &held, &held_size) == 0 && held < bytes)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes); /* what the system does not allow it cuts */
}
