/* libmicrohttpd with external polling: its epoll descriptor is readable whenever one of its sockets wants something,
 * and MHD_get_timeout says when time alone is a reason to look.
 *
 * Connections are accepted here and handed over, because libmicrohttpd's own limits shut out whoever comes last, and
 * its time-out begins anew with every byte: somebody who sends a byte a second from 48 connections would keep
 * everybody else of that address away. Here the oldest visitor goes. An honest one has its answer in the turn in
 * which its request arrives. */
#include "common/http_metrics.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "common/log.h"
#include "common/net_address.h"

enum {
    TICK_MS = 500,
    TURN_MAX = 64,  /* connections accepted before others of the loop get their turn */
    PORT_TRIES = 8, /* a port that the system chose for one address may be taken on the next one */
    BACKLOG = 64,
    VISITORS_MAX = 2 * HTTP_CONNECTIONS_MAX /* with those that were shut down and are still to be let go */
};

struct visitor {
    int fd; /* libmicrohttpd's; -1: this place is free */
    struct net_address from;
    uint64_t since_ms;
    bool ended; /* shut down */
};

struct listener {
    int fd;
    uv_poll_t poll;
    struct http_metrics *h;
};

struct http_metrics {
    struct http_metrics_options o;
    struct MHD_Daemon *daemon;
    struct listener listeners[NET_ADDRESSES_MAX];
    size_t listener_count;
    uv_poll_t poll;
    uv_timer_t timer;
    uv_loop_t *loop;
    unsigned open_handles;
    struct visitor visitors[VISITORS_MAX];
};

/* ---- answers ---- */

/* Takes text over. */
static enum MHD_Result answer_with(struct MHD_Connection *c, unsigned status, const char *type, char *text, size_t size)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE);
    if (r == NULL) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    enum MHD_Result rc = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result answer_line(struct MHD_Connection *c, unsigned status, const char *line)
{
    char *text = strdup(line);
    return text ? answer_with(c, status, "text/plain; charset=utf-8", text, strlen(text)) : MHD_NO;
}

static enum MHD_Result answer_metrics(struct http_metrics *h, struct MHD_Connection *c)
{
    struct exposition x;
    char *text;
    size_t size;
    exposition_begin(&x);
    h->o.metrics(h->o.arg, &x);
    exposition_process(&x);
    if (exposition_end(&x, &text, &size) != 0)
        return MHD_NO;
    return answer_with(c, MHD_HTTP_OK, EXPOSITION_TYPE, text, size);
}

static enum MHD_Result answer_health(struct http_metrics *h, struct MHD_Connection *c)
{
    bool ok = false;
    json_t *object = h->o.health(h->o.arg, &ok);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (text == NULL)
        return MHD_NO;
    size_t size = strlen(text);
    text[size] = '\n'; /* in the place of the NUL, which HTTP does not need */
    return answer_with(c, ok ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, "application/json", text, size + 1);
}

/* libmicrohttpd calls this as soon as the headers are there. Nothing that we serve needs a body, so the answer is
 * given at once. */
static enum MHD_Result answer(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **connection_state)
{
    struct http_metrics *h = arg;
    (void)version;
    (void)upload;
    (void)upload_size;
    (void)connection_state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_line(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    if (strcmp(url, "/metrics") == 0)
        return answer_metrics(h, c);
    if (strcmp(url, "/healthz") == 0)
        return answer_health(h, c);
    return answer_line(c, MHD_HTTP_NOT_FOUND, "/metrics and /healthz are here\n");
}

/* ---- visitors ---- */

static bool same_host(const struct net_address *a, const struct net_address *b)
{
    if (a->socket.ss_family != b->socket.ss_family)
        return false;
    if (a->socket.ss_family == AF_INET)
        return ((const struct sockaddr_in *)&a->socket)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)&b->socket)->sin_addr.s_addr;
    return memcmp(&((const struct sockaddr_in6 *)&a->socket)->sin6_addr,
                  &((const struct sockaddr_in6 *)&b->socket)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

static void end_visit(struct visitor *v)
{
    v->ended = true;
    shutdown(v->fd, SHUT_RDWR);
}

/* The one that came first, of that host or of all (NULL), and how many there are. */
static struct visitor *oldest(struct http_metrics *h, const struct net_address *host, size_t *count)
{
    struct visitor *first = NULL;
    *count = 0;
    for (size_t i = 0; i < VISITORS_MAX; i++) {
        struct visitor *v = &h->visitors[i];
        if (v->fd < 0 || v->ended || (host && !same_host(&v->from, host)))
            continue;
        ++*count;
        if (!first || v->since_ms < first->since_ms)
            first = v;
    }
    return first;
}

static void make_room(struct http_metrics *h, const struct net_address *newcomer)
{
    size_t count;
    struct visitor *first = oldest(h, newcomer, &count);
    if (count >= HTTP_PER_ADDRESS_MAX)
        end_visit(first);
    first = oldest(h, NULL, &count);
    if (count >= HTTP_CONNECTIONS_MAX)
        end_visit(first);
}

static void end_long_visits(struct http_metrics *h)
{
    for (size_t i = 0; i < VISITORS_MAX; i++) {
        struct visitor *v = &h->visitors[i];
        if (v->fd >= 0 && !v->ended && uv_now(h->loop) - v->since_ms >= HTTP_DEADLINE_S * 1000)
            end_visit(v);
    }
}

static void note_visitor(struct http_metrics *h, struct MHD_Connection *c, void **place)
{
    const union MHD_ConnectionInfo *fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    for (size_t i = 0; fd && i < VISITORS_MAX; i++) {
        struct visitor *v = &h->visitors[i];
        if (v->fd >= 0)
            continue;
        *v = (struct visitor){.fd = fd->connect_fd, .since_ms = uv_now(h->loop), .from.size = sizeof v->from.socket};
        getpeername(v->fd, (struct sockaddr *)&v->from.socket, &v->from.size);
        *place = v;
        return;
    }
}

/* libmicrohttpd closes the descriptor after it has said so. */
static void on_connection(void *arg, struct MHD_Connection *c, void **place, enum MHD_ConnectionNotificationCode what)
{
    struct visitor *v = *place;
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        note_visitor(arg, c, place);
    else if (v)
        v->fd = -1;
}

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer);
static void on_visitor(uv_poll_t *poll, int status, int events);

static void run(struct http_metrics *h)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;
    MHD_run(h->daemon);
    if (MHD_get_timeout(h->daemon, &wait_ms) != MHD_YES || wait_ms > TICK_MS)
        wait_ms = TICK_MS;
    uv_timer_start(&h->timer, on_timer, wait_ms, 0);
}

/* Also for those who could not be accepted for want of descriptors. */
static void on_timer(uv_timer_t *timer)
{
    struct http_metrics *h = timer->data;
    end_long_visits(h);
    for (size_t i = 0; i < h->listener_count; i++)
        uv_poll_start(&h->listeners[i].poll, UV_READABLE, on_visitor);
    run(h);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

/* Who cannot be accepted now stays in the kernel's queue, and is not looked at again before the next tick. */
static void on_visitor(uv_poll_t *poll, int status, int events)
{
    struct listener *l = poll->data;
    (void)status;
    (void)events;
    for (int turn = 0; turn < TURN_MAX; turn++) {
        struct net_address from = {.size = sizeof from.socket};
        int fd = accept4(l->fd, (struct sockaddr *)&from.socket, &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
                uv_poll_stop(poll);
            break;
        }
        make_room(l->h, &from);
        (void)MHD_add_connection(l->h->daemon, fd, (const struct sockaddr *)&from.socket,
                                 from.size); /* or it closes fd */
    }
    run(l->h);
}

/* ---- life ---- */

/* 0 or -1 with errno. Port 0 becomes the one that the system chose. */
static int listen_at(struct listener *l, struct net_address *a)
{
    int on = 1, off = 0;
    l->fd = socket(a->socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return -1;
    setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->socket.ss_family == AF_INET6)
        setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(l->fd, (const struct sockaddr *)&a->socket, a->size) == 0 && listen(l->fd, BACKLOG) == 0 &&
        getsockname(l->fd, (struct sockaddr *)&a->socket, &a->size) == 0)
        return 0;
    int reason = errno;
    close(l->fd);
    errno = reason;
    return -1;
}

static void stop_listening(struct http_metrics *h)
{
    while (h->listener_count > 0)
        close(h->listeners[--h->listener_count].fd);
}

/* On all that this machine has, with one port. 0, or an errno, and then on none. */
static int listen_at_each(struct http_metrics *h, struct net_addresses *to)
{
    int reason = EADDRNOTAVAIL;
    unsigned port = net_address_port(&to->at[0]);
    for (size_t i = 0; i < to->count; i++) {
        net_address_set_port(&to->at[i], port);
        if (listen_at(&h->listeners[h->listener_count], &to->at[i]) == 0) {
            h->listener_count++;
            port = net_address_port(&to->at[i]);
            continue;
        }
        reason = errno;
        if (net_address_is_absent(reason))
            continue;
        stop_listening(h);
        return reason;
    }
    return h->listener_count > 0 ? 0 : reason;
}

static int start_listening(struct http_metrics *h, struct error *e)
{
    struct net_addresses found, tried;
    struct error why = {0};
    int rc = net_resolve(h->o.address, NET_TO_BIND, &found, &why), reason = EADDRINUSE;
    if (rc != 0)
        return error_set(e, rc, "metrics: '%s': %s", h->o.address, why.text);
    unsigned port = net_address_port(&found.at[0]);
    for (int i = 0; i < PORT_TRIES && reason == EADDRINUSE && (i == 0 || port == 0); i++) {
        tried = found;
        reason = listen_at_each(h, &tried);
    }
    return reason == 0 ? 0
                       : error_set(e, ERR_IO, "metrics: cannot listen on %s: %s. HINT: is it this machine's, and free?",
                                   h->o.address, strerror(reason));
}

static void log_trouble(void *arg, const char *format, va_list args)
{
    char text[256];
    (void)arg;
    vsnprintf(text, sizeof text, format, args);
    log_debug("event=http text=\"%s\"", text);
}

static int start_daemon(struct http_metrics *h, struct error *e)
{
    h->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0, NULL, NULL, answer, h,
                                 MHD_OPTION_EXTERNAL_LOGGER, log_trouble, NULL, MHD_OPTION_NOTIFY_CONNECTION,
                                 on_connection, h, MHD_OPTION_CONNECTION_LIMIT, (unsigned)VISITORS_MAX,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_TIMEOUT_S,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_END);
    return h->daemon ? 0 : error_set(e, ERR_IO, "metrics: libmicrohttpd did not start: %s", strerror(errno));
}

/* open_handles counts in this order: poll, timer, those of the listeners. */
static int start_handles(uv_loop_t *loop, struct http_metrics *h, struct error *e)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int rc = info ? uv_poll_init(loop, &h->poll, info->epoll_fd) : UV_ENOTSUP;
    if (rc == 0) {
        uv_timer_init(loop, &h->timer);
        h->open_handles = 2;
    }
    for (size_t i = 0; rc == 0 && i < h->listener_count; i++) {
        rc = uv_poll_init(loop, &h->listeners[i].poll, h->listeners[i].fd);
        h->open_handles += rc == 0;
    }
    if (rc != 0)
        return error_set(e, ERR_IO, "metrics: cannot poll: %s", uv_strerror(rc));
    h->poll.data = h->timer.data = h;
    for (size_t i = 0; i < h->listener_count; i++) {
        struct listener *l = &h->listeners[i];
        l->h = h;
        l->poll.data = l;
        uv_poll_start(&l->poll, UV_READABLE, on_visitor);
    }
    uv_poll_start(&h->poll, UV_READABLE, on_poll);
    uv_timer_start(&h->timer, on_timer, TICK_MS, 0);
    return 0;
}

static void http_metrics_free(struct http_metrics *h)
{
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    stop_listening(h);
    free(h);
}

/* libuv must have let go of the descriptors before they are closed. */
static void on_closed(uv_handle_t *handle)
{
    struct http_metrics *h = handle->data;
    if (--h->open_handles == 0)
        http_metrics_free(h);
}

static void dispose(struct http_metrics *h)
{
    unsigned opened = h->open_handles;
    if (opened == 0) {
        http_metrics_free(h);
        return;
    }
    h->poll.data = h->timer.data = h;
    uv_close((uv_handle_t *)&h->poll, on_closed);
    uv_close((uv_handle_t *)&h->timer, on_closed);
    for (unsigned i = 2; i < opened; i++) {
        h->listeners[i - 2].poll.data = h;
        uv_close((uv_handle_t *)&h->listeners[i - 2].poll, on_closed);
    }
}

int http_metrics_open(uv_loop_t *loop, const struct http_metrics_options *o, struct http_metrics **out, struct error *e)
{
    struct http_metrics *h = calloc(1, sizeof *h);
    *out = NULL;
    if (h == NULL)
        return error_set(e, ERR_MEMORY, "metrics: out of memory");
    h->o = *o;
    h->loop = loop;
    for (size_t i = 0; i < VISITORS_MAX; i++)
        h->visitors[i].fd = -1;
    int rc = start_listening(h, e);
    if (rc == 0)
        rc = start_daemon(h, e);
    if (rc == 0)
        rc = start_handles(loop, h, e);
    if (rc != 0) {
        dispose(h);
        return rc;
    }
    *out = h;
    log_info("event=metrics port=%u", http_metrics_port(h));
    return 0;
}

unsigned http_metrics_port(const struct http_metrics *h)
{
    struct net_address a = {.size = sizeof a.socket};
    return getsockname(h->listeners[0].fd, (struct sockaddr *)&a.socket, &a.size) == 0 ? net_address_port(&a) : 0;
}

void http_metrics_close(struct http_metrics **h)
{
    struct http_metrics *closing = *h;
    *h = NULL;
    if (closing)
        dispose(closing);
}
