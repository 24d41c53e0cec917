/* Sockets of the system rather than of ZeroMQ: those tell at once, and say nothing to whoever listens. */
#include "cli/presence.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "proto/probe.h"

enum { CONNECT_MS = 2000 };

/* 0 or an errno. */
static int try_connect(const struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), reason = 0;
    socklen_t length = sizeof reason;
    if (fd < 0)
        return errno;
    if (connect(fd, address, size) != 0 && errno != EINPROGRESS) {
        reason = errno;
    } else {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        int ready = poll(&wait, 1, CONNECT_MS);
        if (ready <= 0)
            reason = ready == 0 ? ETIMEDOUT : errno;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &length);
    }
    close(fd);
    return reason;
}

static int try_bind(const struct sockaddr *address, socklen_t size)
{
    int on = 1, fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    int reason = bind(fd, address, size) == 0 ? 0 : errno;
    close(fd);
    return reason;
}

static enum presence presence_of_address(const struct sockaddr *address, socklen_t size, int *reason)
{
    *reason = try_connect(address, size);
    if (*reason == 0)
        return LISTENING;
    if (*reason != ECONNREFUSED)
        return UNREACHABLE;
    *reason = try_bind(address, size);
    if (*reason == 0)
        return FREE;
    return *reason == EADDRNOTAVAIL ? ELSEWHERE : UNUSABLE;
}

/* "tcp://HOST:PORT", with brackets around an IPv6 host. */
static enum presence presence_tcp(const char *rest, const char **why)
{
    char host[PROBE_ENDPOINT_MAX];
    const struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    const char *colon = strrchr(rest, ':');
    *why = "expected tcp://HOST:PORT";
    if (!colon)
        return UNUSABLE;
    bool brackets = rest[0] == '[' && colon > rest && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(colon - rest) - 2 * brackets, rest + brackets);
    int failed = getaddrinfo(host, colon + 1, &wanted, &found);
    if (failed != 0) {
        *why = gai_strerror(failed);
        return UNREACHABLE;
    }
    int reason;
    enum presence p = presence_of_address(found->ai_addr, found->ai_addrlen, &reason);
    freeaddrinfo(found);
    *why = strerror(reason);
    return p;
}

static enum presence presence_ipc(const char *path, const char **why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[sizeof address.sun_path];
    *why = "the path is too long for a unix socket";
    if (strlen(path) >= sizeof address.sun_path)
        return UNUSABLE;
    strcpy(address.sun_path, path);
    int reason = try_connect((struct sockaddr *)&address, sizeof address);
    *why = strerror(reason);
    if (reason == 0)
        return LISTENING;
    if (reason != ECONNREFUSED && reason != ENOENT) /* a socket that its server left behind is taken over */
        return UNUSABLE;
    strcpy(directory, path);
    char *slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory] = '\0';
    bool writable = access(slash ? directory : ".", W_OK | X_OK) == 0;
    *why = strerror(errno);
    return writable ? FREE : UNUSABLE;
}

enum presence presence_of(const char *endpoint, const char **why)
{
    char asked[PROBE_ENDPOINT_MAX];
    *why = "the endpoint is too long";
    if (probe_endpoint(endpoint, asked) != 0)
        return UNUSABLE;
    if (strncmp(asked, "tcp://", 6) == 0)
        return presence_tcp(asked + 6, why);
    if (strncmp(asked, "ipc://", 6) == 0)
        return presence_ipc(asked + 6, why);
    *why = "expected tcp:// or ipc://";
    return UNUSABLE;
}
