/* Sockets of the system rather than of ZeroMQ: those tell at once, and say nothing to whoever listens. */
#include "cli/presence.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/net_address.h"

enum { CONNECT_MS = 2000, GREETING_MS = 1000 };

/* A connection, or -1 with *reason, an errno. */
static int connect_to(const struct sockaddr *address, socklen_t size, int *reason)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t length = sizeof *reason;
    *reason = fd < 0 ? errno : 0;
    if (fd < 0)
        return -1;
    if (connect(fd, address, size) != 0 && errno != EINPROGRESS) {
        *reason = errno;
    } else {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        int ready = poll(&wait, 1, CONNECT_MS);
        if (ready <= 0)
            *reason = ready == 0 ? ETIMEDOUT : errno;
        else
            getsockopt(fd, SOL_SOCKET, SO_ERROR, reason, &length);
    }
    if (*reason == 0)
        return fd;
    close(fd);
    return -1;
}

/* 0 or an errno. */
static int try_connect(const struct sockaddr *address, socklen_t size)
{
    int reason, fd = connect_to(address, size, &reason);
    if (fd >= 0)
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

/* What a server would do: it binds every address that the machine has, and wants each of them free. */
static enum presence presence_if_bound(const struct net_addresses *to, int *reason)
{
    enum presence p = ELSEWHERE;
    for (size_t i = 0; i < to->count; i++) {
        *reason = try_bind((const struct sockaddr *)&to->at[i].socket, to->at[i].size);
        if (*reason != 0 && !net_address_is_absent(*reason))
            return UNUSABLE;
        p = *reason == 0 ? FREE : p;
    }
    return p;
}

/* The port is held on one of the addresses; or this machine has none of them; or it may not be used. */
static enum presence presence_bound(const char *address, struct error *why)
{
    struct net_addresses found;
    int reason = 0;
    if (net_resolve(address, NET_TO_BIND, &found, why) != 0)
        return UNUSABLE;
    enum presence p = presence_if_bound(&found, &reason);
    error_set(why, ERR_IO, "%s", strerror(reason));
    return p == UNUSABLE && reason == EADDRINUSE ? LISTENING : p;
}

/* Somebody listens on one of them, or one could be reached and nobody does, or none can be reached. */
static enum presence presence_if_asked(const struct net_addresses *to, int *reason)
{
    enum presence p = UNREACHABLE;
    int why = 0;
    for (size_t i = 0; i < to->count; i++) {
        int failed = try_connect((const struct sockaddr *)&to->at[i].socket, to->at[i].size);
        if (failed == 0)
            return LISTENING;
        p = failed == ECONNREFUSED ? FREE : p;
        why = failed;
    }
    *reason = why;
    return p;
}

/* An address as the server writes it, which may be "*" or an interface. */
static enum presence presence_tcp(const char *address, struct error *why)
{
    struct net_addresses found;
    int reason = 0;
    if (net_resolve(address, NET_TO_BIND, &found, why) != 0)
        return why->code == ERR_CONFIG ? UNUSABLE : UNREACHABLE;
    enum presence p = net_address_port(&found.at[0]) == 0 ? FREE : presence_if_asked(&found, &reason);
    if (p != LISTENING) {
        enum presence own = presence_if_bound(&found, &reason);
        p = own == ELSEWHERE && p == UNREACHABLE ? p : own;
    }
    error_set(why, ERR_IO, "%s", strerror(reason));
    return p;
}

static enum presence presence_ipc(const char *path, struct error *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char directory[sizeof address.sun_path];
    error_set(why, ERR_RANGE, "the path is too long for a unix socket");
    if (strlen(path) >= sizeof address.sun_path)
        return UNUSABLE;
    strcpy(address.sun_path, path);
    int reason = try_connect((struct sockaddr *)&address, sizeof address);
    error_set(why, ERR_IO, "%s", strerror(reason));
    if (reason == 0)
        return LISTENING;
    if (reason != ECONNREFUSED && reason != ENOENT) /* a socket that its server left behind is taken over */
        return UNUSABLE;
    strcpy(directory, path);
    char *slash = strrchr(directory, '/');
    if (slash)
        slash[slash == directory] = '\0';
    bool writable = access(slash ? directory : ".", W_OK | X_OK) == 0;
    error_set(why, ERR_IO, "%s", strerror(errno));
    return writable ? FREE : UNUSABLE;
}

enum presence presence_of(const char *endpoint, struct error *why)
{
    if (strncmp(endpoint, "tcp://", 6) == 0)
        return presence_tcp(endpoint + 6, why);
    if (strncmp(endpoint, "ipc://", 6) == 0)
        return presence_ipc(endpoint + 6, why);
    error_set(why, ERR_CONFIG, "expected tcp:// or ipc://");
    return UNUSABLE;
}

enum presence presence_to_bind(const char *endpoint, struct error *why)
{
    return strncmp(endpoint, "tcp://", 6) == 0 ? presence_bound(endpoint + 6, why) : presence_of(endpoint, why);
}

/* The first bytes of ZMTP 3: 0xff, eight bytes of padding, 0x7f (rfc.zeromq.org/spec/23). */
static bool greeting(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    unsigned char first[10];
    size_t got = 0;
    while (got < sizeof first && poll(&wait, 1, GREETING_MS) == 1) {
        ssize_t n = read(fd, first + got, sizeof first - got);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return got == sizeof first && first[0] == 0xff && first[9] == 0x7f;
}

bool presence_greets(const char *endpoint)
{
    struct net_addresses found;
    bool greets = strncmp(endpoint, "tcp://", 6) != 0;
    if (greets || net_resolve(endpoint + 6, NET_TO_BIND, &found, NULL) != 0)
        return greets;
    for (size_t i = 0; !greets && i < found.count; i++) {
        int reason, fd = connect_to((const struct sockaddr *)&found.at[i].socket, found.at[i].size, &reason);
        greets = fd >= 0 && greeting(fd);
        if (fd >= 0)
            close(fd);
    }
    return greets;
}
