/* libmicrohttpd with external polling: its epoll descriptor is readable whenever one of its sockets wants something,
 * and MHD_get_timeout says when time alone is a reason to look. */
#include "common/http_metrics.h"

#include <microhttpd.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/log.h"

enum { HANDLES = 2 /* poll, timer */, TICK_MS = 500 };

struct http_metrics {
    struct http_metrics_options o;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned open_handles;
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

/* ---- the loop ---- */

static void on_timer(uv_timer_t *timer);

/* At its limit of connections libmicrohttpd stops listening. It begins again in the first run after a connection has
 * ended, but asks for that run neither by descriptor nor by timeout. That is why there is a tick every TICK_MS. */
static void run(struct http_metrics *h)
{
    MHD_UNSIGNED_LONG_LONG wait_ms;
    MHD_run(h->daemon);
    if (MHD_get_timeout(h->daemon, &wait_ms) != MHD_YES || wait_ms > TICK_MS)
        wait_ms = TICK_MS;
    uv_timer_start(&h->timer, on_timer, wait_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

/* ---- life ---- */

/* "HOST:PORT" into an address to bind. */
static int resolve(const char *address, struct addrinfo **out, struct error *e)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    if (colon == NULL || n == 0 || n >= sizeof host || colon[1] == '\0')
        return error_set(e, ERR_CONFIG, "metrics: '%s' is not HOST:PORT", address);
    bool bracketed = address[0] == '[' && colon[-1] == ']';
    memcpy(host, address + bracketed, n - 2 * bracketed);
    host[n - 2 * bracketed] = '\0';
    bool any = strcmp(host, "*") == 0;
    hints.ai_family = any ? AF_INET : AF_UNSPEC;
    int rc = getaddrinfo(any ? NULL : host, colon + 1, &hints, out);
    return rc == 0 ? 0 : error_set(e, ERR_CONFIG, "metrics: '%s': %s", address, gai_strerror(rc));
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
    struct addrinfo *found;
    int rc = resolve(h->o.address, &found, e);
    if (rc != 0)
        return rc;
    unsigned flags = MHD_USE_EPOLL | MHD_USE_ERROR_LOG | (found->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    h->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, answer, h, MHD_OPTION_EXTERNAL_LOGGER, log_trouble, NULL, MHD_OPTION_SOCK_ADDR,
        found->ai_addr, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        (unsigned)HTTP_PER_ADDRESS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_CONNECTION_BYTES, MHD_OPTION_END);
    freeaddrinfo(found);
    return h->daemon ? 0
                     : error_set(e, ERR_IO, "metrics: cannot listen on %s. HINT: is it this machine's, and free?",
                                 h->o.address);
}

static int start_handles(uv_loop_t *loop, struct http_metrics *h, struct error *e)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    int rc = info ? uv_poll_init(loop, &h->poll, info->epoll_fd) : UV_ENOTSUP;
    if (rc != 0)
        return error_set(e, ERR_IO, "metrics: cannot poll: %s", uv_strerror(rc));
    uv_timer_init(loop, &h->timer);
    h->poll.data = h->timer.data = h;
    h->open_handles = HANDLES;
    uv_poll_start(&h->poll, UV_READABLE, on_poll);
    uv_timer_start(&h->timer, on_timer, TICK_MS, 0);
    return 0;
}

static void http_metrics_free(struct http_metrics *h)
{
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    free(h);
}

int http_metrics_open(uv_loop_t *loop, const struct http_metrics_options *o, struct http_metrics **out, struct error *e)
{
    struct http_metrics *h = calloc(1, sizeof *h);
    *out = NULL;
    if (h == NULL)
        return error_set(e, ERR_MEMORY, "metrics: out of memory");
    h->o = *o;
    int rc = start_daemon(h, e);
    if (rc == 0)
        rc = start_handles(loop, h, e);
    if (rc != 0) {
        http_metrics_free(h);
        return rc;
    }
    *out = h;
    log_info("event=metrics port=%u", http_metrics_port(h));
    return 0;
}

unsigned http_metrics_port(const struct http_metrics *h)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : 0;
}

/* libuv must have let go of the descriptor before libmicrohttpd closes it. */
static void on_closed(uv_handle_t *handle)
{
    struct http_metrics *h = handle->data;
    if (--h->open_handles == 0)
        http_metrics_free(h);
}

void http_metrics_close(struct http_metrics **h)
{
    struct http_metrics *closing = *h;
    *h = NULL;
    if (closing == NULL)
        return;
    uv_close((uv_handle_t *)&closing->poll, on_closed);
    uv_close((uv_handle_t *)&closing->timer, on_closed);
}
