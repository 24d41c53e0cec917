/* A topic's newest text is one reference-counted blob, framed as an event already. A stream sends a blob to its end,
 * then the next topic whose version it has not sent, and is suspended when there is none: dashboard_http_wake resumes
 * all. One lock guards topics and streams; libmicrohttpd's own locks are only ever taken inside it. */
#include "cli/dashboard_http.h"

#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "cli/dashboard_page.h"
#include "common/log.h"

enum { NONCE_BYTES = 16, STREAM_BLOCK = 32768 };

static const char beat[] = ": still here\n\n", greeting[] = "retry: 2000\n\n";

struct blob {
    size_t references, size, prefix; /* prefix: bytes before the JSON itself */
    char text[];                     /* "event: NAME\ndata: JSON\n\n" */
};

struct topic {
    struct blob *blob; /* NULL: never set */
    unsigned version;
};

struct stream {
    struct dashboard_http *h;
    struct MHD_Connection *connection;
    struct blob *sending; /* or NULL */
    const char *note;     /* a comment to be sent before all, or NULL */
    size_t sent;          /* of either */
    unsigned seen[DASHBOARD_TOPICS_MAX];
    bool suspended;
};

struct dashboard_http {
    struct dashboard_http_options o;
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    struct topic topics[DASHBOARD_TOPICS_MAX];
    struct stream *streams[DASHBOARD_STREAMS_MAX];
    unsigned ticks;
    bool closing;
};

/* ---- blobs; under the lock ---- */

static struct blob *blob_new(const char *name, json_t *object)
{
    struct blob *b = NULL;
    char *json = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    size_t size = json ? strlen(name) + strlen(json) + 32 : 0;
    if (json && (b = malloc(sizeof *b + size)) != NULL) {
        b->references = 1;
        b->prefix = (size_t)sprintf(b->text, "event: %s\ndata: ", name);
        b->size = b->prefix + (size_t)sprintf(b->text + b->prefix, "%s\n\n", json);
    }
    free(json);
    return b;
}

static void blob_unref(struct blob **b)
{
    if (*b && --(*b)->references == 0)
        free(*b);
    *b = NULL;
}

/* ---- streams ---- */

/* The next thing to send into s; false when there is none. */
static bool next_blob(struct stream *s)
{
    for (size_t i = 0; i < s->h->o.topic_count; i++) {
        struct topic *t = &s->h->topics[i];
        if (t->version == s->seen[i])
            continue;
        s->seen[i] = t->version;
        s->sending = t->blob;
        s->sending->references++;
        s->sent = 0;
        return true;
    }
    return false;
}

static size_t copy_some(struct stream *s, char *out, size_t room)
{
    const char *text = s->note ? s->note : s->sending->text;
    size_t size = s->note ? strlen(s->note) : s->sending->size;
    size_t n = size - s->sent < room ? size - s->sent : room;
    memcpy(out, text + s->sent, n);
    s->sent += n;
    if (s->sent == size) {
        s->sent = 0;
        if (!s->note)
            blob_unref(&s->sending);
        s->note = NULL;
    }
    return n;
}

static ssize_t on_read(void *arg, uint64_t position, char *out, size_t room)
{
    struct stream *s = arg;
    struct dashboard_http *h = s->h;
    ssize_t n = 0;
    (void)position;
    pthread_mutex_lock(&h->lock);
    if (h->closing) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (s->note || s->sending || next_blob(s)) {
        n = (ssize_t)copy_some(s, out, room);
    } else {
        s->suspended = true;
        MHD_suspend_connection(s->connection);
    }
    pthread_mutex_unlock(&h->lock);
    return n;
}

static void on_stream_end(void *arg)
{
    struct stream *s = arg;
    struct dashboard_http *h = s->h;
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < DASHBOARD_STREAMS_MAX; i++)
        if (h->streams[i] == s)
            h->streams[i] = NULL;
    blob_unref(&s->sending);
    pthread_mutex_unlock(&h->lock);
    free(s);
}

/* A place among the streams, or NULL when all are taken. */
static struct stream *stream_new(struct dashboard_http *h, struct MHD_Connection *c)
{
    struct stream *s = calloc(1, sizeof *s);
    size_t i = 0;
    if (!s)
        return NULL;
    *s = (struct stream){.h = h, .connection = c, .note = greeting};
    pthread_mutex_lock(&h->lock);
    while (i < DASHBOARD_STREAMS_MAX && h->streams[i])
        i++;
    if (i < DASHBOARD_STREAMS_MAX)
        h->streams[i] = s;
    pthread_mutex_unlock(&h->lock);
    if (i < DASHBOARD_STREAMS_MAX)
        return s;
    free(s);
    return NULL;
}

/* ---- answers ---- */

static void add_headers(struct MHD_Response *r, const char *type, const char *nonce)
{
    char policy[256];
    snprintf(policy, sizeof policy,
             "default-src 'none'; script-src 'nonce-%s'; style-src 'nonce-%s'; connect-src 'self'; img-src data:; "
             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
             nonce, nonce);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(r, "Content-Security-Policy", policy);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "X-Frame-Options", "DENY");
    MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    MHD_add_response_header(r, "Cross-Origin-Opener-Policy", "same-origin");
}

static enum MHD_Result send_response(struct MHD_Connection *c, unsigned status, struct MHD_Response *r)
{
    enum MHD_Result rc = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return rc;
}

/* Takes text over. nonce: without one nothing in it is run. */
static enum MHD_Result answer_text(struct MHD_Connection *c, unsigned status, const char *type, char *text, size_t size,
                                   const char *nonce)
{
    struct MHD_Response *r = text ? MHD_create_response_from_buffer(size, text, MHD_RESPMEM_MUST_FREE) : NULL;
    if (r == NULL) {
        free(text);
        return MHD_NO;
    }
    add_headers(r, type, nonce);
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "10");
    return send_response(c, status, r);
}

static enum MHD_Result answer_line(struct MHD_Connection *c, unsigned status, const char *line)
{
    return answer_text(c, status, "text/plain; charset=utf-8", strdup(line), strlen(line), "none");
}

static enum MHD_Result answer_page(struct MHD_Connection *c)
{
    unsigned char bytes[NONCE_BYTES];
    char nonce[2 * NONCE_BYTES + 1];
    size_t size = 0;
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return MHD_NO;
    for (size_t i = 0; i < NONCE_BYTES; i++)
        sprintf(nonce + 2 * i, "%02x", bytes[i]);
    char *text = dashboard_page(nonce, &size);
    return answer_text(c, MHD_HTTP_OK, "text/html; charset=utf-8", text, size, nonce);
}

static enum MHD_Result answer_data(struct dashboard_http *h, struct MHD_Connection *c)
{
    char *text = NULL;
    size_t size = 0;
    bool first = true;
    FILE *f = open_memstream(&text, &size);
    if (f == NULL)
        return MHD_NO;
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < h->o.topic_count; i++) {
        const struct blob *b = h->topics[i].blob;
        if (b == NULL)
            continue;
        fprintf(f, "%s\"%s\":", first ? "{" : ",", h->o.topics[i]);
        fwrite(b->text + b->prefix, 1, b->size - b->prefix - 2, f);
        first = false;
    }
    pthread_mutex_unlock(&h->lock);
    fputs(first ? "{}\n" : "}\n", f);
    if (fclose(f) != 0) {
        free(text);
        return MHD_NO;
    }
    return answer_text(c, MHD_HTTP_OK, "application/json", text, size, "none");
}

static enum MHD_Result answer_events(struct dashboard_http *h, struct MHD_Connection *c)
{
    struct stream *s = stream_new(h, c);
    if (s == NULL)
        return answer_line(c, MHD_HTTP_SERVICE_UNAVAILABLE, "too many pages follow this dashboard; close one\n");
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_read, s, on_stream_end);
    if (r == NULL) {
        on_stream_end(s);
        return MHD_NO;
    }
    add_headers(r, "text/event-stream; charset=utf-8", "none");
    return send_response(c, MHD_HTTP_OK, r);
}

static enum MHD_Result answer_more(struct dashboard_http *h, struct MHD_Connection *c, const char *url)
{
    struct dashboard_answer a = {0};
    if (h->o.more)
        h->o.more(h->o.more_arg, url, &a);
    return a.status != 0
               ? answer_text(c, a.status, a.type, a.body, a.size, "none")
               : answer_line(c, MHD_HTTP_NOT_FOUND, "/, /events, /data.json and /nearest/RUN/PROTOTYPE.png are here\n");
}

static enum MHD_Result route(struct dashboard_http *h, struct MHD_Connection *c, const char *url)
{
    if (strcmp(url, "/") == 0)
        return answer_page(c);
    if (strcmp(url, "/events") == 0)
        return answer_events(h, c);
    if (strcmp(url, "/data.json") == 0)
        return answer_data(h, c);
    return answer_more(h, c, url);
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct dashboard_http *h = arg;
    const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    const char *origin = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Origin");
    (void)version;
    (void)upload;
    (void)state;
    *upload_size = 0;
    if (!dashboard_gate_host(&h->o.gate, host))
        return answer_line(c, MHD_HTTP_MISDIRECTED_REQUEST,
                           "this name is not one of the dashboard's; use localhost, or start it with --host NAME\n");
    if (!dashboard_gate_origin(origin, host))
        return answer_line(c, MHD_HTTP_FORBIDDEN, "only the dashboard's own page may ask\n");
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_line(c, MHD_HTTP_METHOD_NOT_ALLOWED, "the dashboard is only to be read\n");
    return route(h, c, url);
}

/* ---- topics ---- */

int dashboard_http_set(struct dashboard_http *h, size_t topic, json_t *object)
{
    ASSERT(topic < h->o.topic_count);
    struct blob *b = blob_new(h->o.topics[topic], object);
    json_decref(object);
    if (b == NULL)
        return ERR_MEMORY;
    pthread_mutex_lock(&h->lock);
    blob_unref(&h->topics[topic].blob);
    h->topics[topic].blob = b;
    h->topics[topic].version++;
    pthread_mutex_unlock(&h->lock);
    return 0;
}

static void resume(struct stream *s)
{
    if (s->suspended)
        MHD_resume_connection(s->connection);
    s->suspended = false;
}

/* The comment makes the system try to write, and so find out who has gone. */
void dashboard_http_wake(struct dashboard_http *h)
{
    pthread_mutex_lock(&h->lock);
    bool due = ++h->ticks % DASHBOARD_BEAT_TICKS == 0;
    for (size_t i = 0; i < DASHBOARD_STREAMS_MAX; i++) {
        struct stream *s = h->streams[i];
        if (s && s->suspended && due)
            s->note = beat;
        if (s)
            resume(s);
    }
    pthread_mutex_unlock(&h->lock);
}

/* ---- life ---- */

static int resolve(const char *address, struct addrinfo **out, struct error *e)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    if (colon == NULL || n == 0 || n >= sizeof host || colon[1] == '\0')
        return error_set(e, ERR_CONFIG, "--listen '%s' is not HOST:PORT, such as 127.0.0.1:8420", address);
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || port > UINT16_MAX || colon[1] < '0' || colon[1] > '9')
        return error_set(e, ERR_CONFIG, "--listen '%s': '%s' is no port; expected 0 to 65535", address, colon + 1);
    bool bracketed = address[0] == '[' && colon[-1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(n - 2 * bracketed), address + bracketed);
    int rc = getaddrinfo(host, colon + 1, &hints, out);
    return rc == 0 ? 0 : error_set(e, ERR_CONFIG, "--listen '%s': %s", address, gai_strerror(rc));
}

static void log_trouble(void *arg, const char *format, va_list args)
{
    char text[256];
    (void)arg;
    vsnprintf(text, sizeof text, format, args);
    log_debug("event=http text=\"%s\"", text);
}

static int start_daemon(struct dashboard_http *h, struct error *e)
{
    struct addrinfo *found;
    int rc = resolve(h->o.address, &found, e);
    if (rc != 0)
        return rc;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     (found->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, log_trouble, NULL,
                                 MHD_OPTION_SOCK_ADDR, found->ai_addr, MHD_OPTION_CONNECTION_LIMIT,
                                 (unsigned)DASHBOARD_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
                                 (unsigned)DASHBOARD_PER_ADDRESS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                                 (unsigned)DASHBOARD_TIMEOUT_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t)DASHBOARD_CONNECTION_BYTES, MHD_OPTION_END);
    freeaddrinfo(found);
    return h->daemon ? 0
                     : error_set(e, ERR_IO,
                                 "cannot listen on %s: is it this machine's, and free? --listen HOST:PORT chooses "
                                 "another, port 0 any that is free",
                                 h->o.address);
}

int dashboard_http_open(const struct dashboard_http_options *o, struct dashboard_http **out, struct error *e)
{
    ASSERT(o->topic_count <= DASHBOARD_TOPICS_MAX);
    struct dashboard_http *h = calloc(1, sizeof *h);
    *out = NULL;
    if (h == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for the dashboard's server");
    h->o = *o;
    pthread_mutex_init(&h->lock, NULL);
    int rc = start_daemon(h, e);
    if (rc != 0)
        dashboard_http_close(&h);
    *out = h;
    return rc;
}

unsigned dashboard_http_port(const struct dashboard_http *h)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    return info ? info->port : 0;
}

/* libmicrohttpd insists that nothing is suspended when it stops. */
static void end_streams(struct dashboard_http *h)
{
    pthread_mutex_lock(&h->lock);
    h->closing = true;
    for (size_t i = 0; i < DASHBOARD_STREAMS_MAX; i++)
        if (h->streams[i])
            resume(h->streams[i]);
    pthread_mutex_unlock(&h->lock);
}

void dashboard_http_close(struct dashboard_http **closing)
{
    struct dashboard_http *h = *closing;
    *closing = NULL;
    if (h == NULL)
        return;
    end_streams(h);
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    for (size_t i = 0; i < h->o.topic_count; i++)
        blob_unref(&h->topics[i].blob);
    pthread_mutex_destroy(&h->lock);
    free(h);
}
