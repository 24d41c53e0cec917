/* A socket that never blocks, one poll, and the bounded reader. */
#include "cli/redis_client.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "cli/printable.h"
#include "proto/redis_info.h"
#include "proto/redis_reader.h"

enum {
    REPLY_MAX = 1 << 20,    /* bytes; the longest is the list of workers: some 100 bytes each */
    ELEMENTS_MAX = 1 << 14, /* of a reply: twice the workers or fields that any of them has */
    READ_BYTES = 16384,
};

struct redis_client {
    int fd;
    uint64_t deadline_ms; /* monotonic */
    int within_ms;        /* what the deadline was set to, for messages */
    struct redis_reader reader;
    char *out; /* commands; those before `sent` are on their way */
    size_t out_size, out_room, sent;
    char where[REDIS_ADDRESS_TEXT_MAX];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void redis_client_allow(struct redis_client *c, int within_ms)
{
    c->within_ms = within_ms;
    c->deadline_ms = now_ms() + (uint64_t)within_ms;
}

static int failed(const struct redis_client *c, const char *why, struct error *e)
{
    return error_set(e, ERR_IO, "Redis at %s: %s", c->where, why);
}

static int too_late(const struct redis_client *c, struct error *e)
{
    return error_set(e, ERR_IO, "Redis at %s: no whole answer within %g s; is it a Redis, and is it well?", c->where,
                     c->within_ms / 1000.0);
}

/* Waits for events of the socket until the deadline. */
static int await(struct redis_client *c, short events, struct error *e)
{
    for (;;) {
        uint64_t now = now_ms();
        struct pollfd p = {.fd = c->fd, .events = events};
        int ready = now < c->deadline_ms ? poll(&p, 1, (int)(c->deadline_ms - now)) : 0;
        if (ready > 0)
            return 0;
        if (ready == 0)
            return too_late(c, e);
        if (errno != EINTR)
            return failed(c, strerror(errno), e);
    }
}

/* ---- connecting ---- */

static int connect_to(struct redis_client *c, const struct sockaddr *address, socklen_t size, struct error *e)
{
    int reason = 0;
    socklen_t length = sizeof reason;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return failed(c, strerror(errno), e);
    if (connect(c->fd, address, size) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return failed(c, errno == EAGAIN ? "it takes no connections at the moment" : strerror(errno), e);
    int rc = await(c, POLLOUT, e);
    if (rc != 0)
        return rc;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &reason, &length);
    return reason == 0 ? 0 : failed(c, strerror(reason), e);
}

static int connect_socket(struct redis_client *c, const char *path, struct error *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return failed(c, "the path is too long for a unix socket", e);
    strcpy(address.sun_path, path);
    return connect_to(c, (struct sockaddr *)&address, sizeof address, e);
}

/* Each address of the name in turn. */
static int connect_host(struct redis_client *c, const struct redis_address *a, struct error *e)
{
    char port[16];
    const struct addrinfo wanted = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    snprintf(port, sizeof port, "%d", (int)a->port);
    int rc = getaddrinfo(a->host, port, &wanted, &found);
    if (rc != 0)
        return failed(c, gai_strerror(rc), e);
    rc = ERR_IO;
    for (struct addrinfo *i = found; i != NULL && rc != 0; i = i->ai_next)
        rc = connect_to(c, i->ai_addr, i->ai_addrlen, e);
    freeaddrinfo(found);
    return rc;
}

/* ---- commands ---- */

static int reserve(struct redis_client *c, size_t more)
{
    size_t room = 2 * (c->out_size + more);
    if (c->out_size + more <= c->out_room)
        return 0;
    char *grown = realloc(c->out, room);
    if (grown == NULL)
        return ERR_MEMORY;
    c->out = grown;
    c->out_room = room;
    return 0;
}

/* Takes over what hiredis has formatted; size < 0 when it could not. */
static int append(struct redis_client *c, char *wire, int size)
{
    int rc = size > 0 ? reserve(c, (size_t)size) : ERR_MEMORY;
    if (rc == 0) {
        memcpy(c->out + c->out_size, wire, (size_t)size);
        c->out_size += (size_t)size;
    }
    if (size > 0)
        explicit_bzero(wire, (size_t)size);
    redisFreeCommand(wire);
    return rc;
}

int redis_client_vappend(struct redis_client *c, const char *format, va_list args)
{
    char *wire = NULL;
    int size = redisvFormatCommand(&wire, format, args);
    return append(c, wire, size);
}

int redis_client_append(struct redis_client *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int rc = redis_client_vappend(c, format, args);
    va_end(args);
    return rc;
}

static int send_some(struct redis_client *c, struct error *e)
{
    ssize_t n = send(c->fd, c->out + c->sent, c->out_size - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return failed(c, strerror(errno), e);
    c->sent += n > 0 ? (size_t)n : 0;
    if (c->sent == c->out_size)
        c->sent = c->out_size = 0;
    return 0;
}

static int receive_some(struct redis_client *c, struct error *e)
{
    char bytes[READ_BYTES];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    if (n == 0)
        return failed(c, "it closed the connection; is it a Redis, and without TLS?", e);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : failed(c, strerror(errno), e);
    return redis_reader_feed(&c->reader, bytes, (size_t)n, e);
}

int redis_client_reply(struct redis_client *c, redisReply **reply, struct error *e)
{
    struct error cause = {0};
    for (;;) {
        bool unsent = c->sent < c->out_size;
        if (redis_reader_next(&c->reader, reply, &cause) != 0)
            return error_set(e, ERR_FORMAT, "Redis at %s: it does not answer as a Redis does: %s", c->where,
                             printable(cause.text));
        if (*reply != NULL)
            return 0;
        int rc = await(c, unsent ? POLLIN | POLLOUT : POLLIN, e);
        if (rc == 0 && unsent)
            rc = send_some(c, e);
        if (rc == 0)
            rc = receive_some(c, e);
        if (rc != 0)
            return rc;
    }
}

/* ---- life ---- */

/* The reply to a command that is answered with OK. */
static int await_ok(struct redis_client *c, struct error *e)
{
    redisReply *reply;
    int rc = redis_client_reply(c, &reply, e);
    if (rc != 0)
        return rc;
    if (reply->type == REDIS_REPLY_ERROR)
        rc = error_set(e, ERR_FORMAT, "Redis at %s: %.160s; %s", c->where, printable(reply->str),
                       redis_error_advice(reply->str));
    else if (reply->type != REDIS_REPLY_STATUS)
        rc = failed(c, "it does not answer as a Redis does", e);
    freeReplyObject(reply);
    return rc;
}

/* Not through a format: a password may hold anything. */
static int log_in(struct redis_client *c, const struct redis_login *login, struct error *e)
{
    const char *argv[3] = {"AUTH"};
    char *wire = NULL;
    int n = redis_login_arguments(login, argv + 1);
    if (n == 0)
        return 0;
    int size = redisFormatCommandArgv(&wire, n + 1, argv, NULL), rc = append(c, wire, size);
    return rc == 0 ? await_ok(c, e) : error_set(e, rc, "out of memory");
}

static int select_db(struct redis_client *c, int64_t db, struct error *e)
{
    if (db == 0)
        return 0;
    int rc = redis_client_append(c, "SELECT %d", (int)db);
    return rc == 0 ? await_ok(c, e) : error_set(e, rc, "out of memory");
}

int redis_client_open(const struct redis_address *a, int within_ms, struct redis_client **out, struct error *e)
{
    struct redis_client *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c == NULL || redis_reader_init(&c->reader, REPLY_MAX, ELEMENTS_MAX) != 0) {
        free(c);
        return error_set(e, ERR_MEMORY, "out of memory");
    }
    c->fd = -1;
    redis_address_text(a, c->where);
    redis_client_allow(c, within_ms);
    int rc = a->host[0] == '/' ? connect_socket(c, a->host, e) : connect_host(c, a, e);
    if (rc == 0)
        rc = log_in(c, &a->login, e);
    if (rc == 0)
        rc = select_db(c, a->db, e);
    if (rc != 0)
        redis_client_close(&c);
    *out = c;
    return rc;
}

void redis_client_close(struct redis_client **out)
{
    struct redis_client *c = *out;
    if (c == NULL)
        return;
    if (c->fd >= 0)
        close(c->fd);
    redis_reader_fini(&c->reader);
    if (c->out != NULL)
        explicit_bzero(c->out, c->out_room); /* AUTH was in it */
    free(c->out);
    free(c);
    *out = NULL;
}
