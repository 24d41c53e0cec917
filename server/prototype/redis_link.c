/* libuv does the waiting and hiredis the parsing. hiredis' own asynchronous context is not used: in 0.14 it asserts
 * that every reply was asked for, allocates what an array claims to have, and keeps all bytes that come. */
#include "server/prototype/redis_link.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include "proto/redis_reader.h"

enum {
    READ_BYTES = 16384,
    REPLY_MAX = 4096, /* until redis_link_limit */
    KEEPALIVE_S = 15,
};

struct redis_link {
    struct redis_link_options o;
    uv_loop_t *loop;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    bool opened;    /* io is a handle of the loop */
    bool resolving; /* the resolver is under way */
    bool closed;    /* nobody is called any more */
    uv_getaddrinfo_t resolver;
    uv_connect_t connector;
    struct redis_reader reader;
    uint64_t owed; /* commands that are not answered */
    char input[READ_BYTES];
};

struct outgoing {
    uv_write_t request;
    char bytes[];
};

/* ---- the end ---- */

static void release(struct redis_link *l)
{
    redis_reader_fini(&l->reader);
    free(l);
}

static void on_closed(uv_handle_t *handle)
{
    release(handle->data);
}

void redis_link_close(struct redis_link **out)
{
    struct redis_link *l = *out;
    *out = NULL;
    if (l == NULL || l->closed)
        return;
    l->closed = true;
    if (l->resolving)
        uv_cancel((uv_req_t *)&l->resolver); /* on_resolved comes in any case, and releases */
    else if (l->opened)
        uv_close(&l->io.handle, on_closed);
    else
        release(l);
}

static void down(struct redis_link *l, const char *kind, const char *text)
{
    struct redis_link_options o = l->o;
    char copy[256];
    snprintf(copy, sizeof copy, "%s", text); /* it may lie in what is closed now */
    redis_link_close(&l);
    o.on_down(o.arg, kind, copy);
}

/* ---- incoming ---- */

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct redis_link *l = handle->data;
    (void)suggested;
    *out = uv_buf_init(l->input, sizeof l->input);
}

static void down_unasked(struct redis_link *l, const char *bytes, size_t size)
{
    char text[160];
    snprintf(text, sizeof text, "it speaks without being asked: %.*s", (int)(size < 80 ? size : 80), bytes);
    text[strcspn(text, "\r\n")] = '\0';
    down(l, "unasked", text);
}

/* Every whole reply; false when the link has ended meanwhile. */
static bool take_replies(struct redis_link *l)
{
    struct error e = {0};
    redisReply *reply;
    for (;;) {
        if (redis_reader_next(&l->reader, &reply, &e) != 0) {
            down(l, "protocol", e.text);
            return false;
        }
        if (reply == NULL)
            return true;
        bool asked = l->owed > 0;
        l->owed -= asked;
        if (asked)
            l->o.on_reply(l->o.arg, reply);
        else
            down_unasked(l, "a reply too many", strlen("a reply too many"));
        freeReplyObject(reply);
        if (!asked || l->closed)
            return false;
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct redis_link *l = stream->data;
    struct error e = {0};
    if (n == 0 || l->closed)
        return;
    if (n < 0)
        down(l, "closed", n == UV_EOF ? "it closed the connection" : uv_strerror((int)n));
    else if (l->owed == 0)
        down_unasked(l, buffer->base, (size_t)n);
    else if (redis_reader_feed(&l->reader, buffer->base, (size_t)n, &e) != 0)
        down(l, "memory", e.text);
    else if (take_replies(l) && l->owed == 0 && !redis_reader_empty(&l->reader))
        down_unasked(l, "the beginning of a reply too many", strlen("the beginning of a reply too many"));
}

/* ---- outgoing ---- */

static void on_written(uv_write_t *request, int status)
{
    (void)status; /* a failed write ends the reading too */
    free(request->data);
}

bool redis_link_send(struct redis_link *l, const void *wire, size_t size)
{
    struct outgoing *out = malloc(sizeof *out + size);
    if (out == NULL)
        return false;
    memcpy(out->bytes, wire, size);
    out->request.data = out;
    uv_buf_t buffer = uv_buf_init(out->bytes, (unsigned)size);
    if (uv_write(&out->request, &l->io.stream, &buffer, 1, on_written) != 0) {
        free(out);
        return false;
    }
    l->owed++;
    return true;
}

void redis_link_limit(struct redis_link *l, size_t reply_max)
{
    l->reader.reply_max = reply_max;
}

/* ---- connecting ---- */

static void on_connected(uv_connect_t *request, int status)
{
    struct redis_link *l = request->data;
    if (l->closed)
        return;
    if (status == 0)
        status = uv_read_start(&l->io.stream, on_allocate, on_read);
    if (status == 0)
        l->o.on_up(l->o.arg);
    else
        down(l, "connect", uv_strerror(status));
}

static int connect_to(struct redis_link *l, const struct sockaddr *address)
{
    uv_tcp_init(l->loop, &l->io.tcp);
    l->opened = true;
    l->io.handle.data = l;
    uv_tcp_nodelay(&l->io.tcp, 1);
    uv_tcp_keepalive(&l->io.tcp, 1, KEEPALIVE_S);
    return uv_tcp_connect(&l->connector, &l->io.tcp, address, on_connected);
}

/* The address whose turn it is. */
static const struct addrinfo *pick(const struct addrinfo *found, uint32_t attempt)
{
    uint32_t count = 0;
    for (const struct addrinfo *i = found; i != NULL; i = i->ai_next)
        count++;
    for (attempt %= count; attempt > 0; attempt--)
        found = found->ai_next;
    return found;
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct redis_link *l = request->data;
    l->resolving = false;
    if (l->closed) {
        uv_freeaddrinfo(found);
        release(l);
        return;
    }
    const char *kind = "name";
    if (status == 0) {
        kind = "connect";
        status = connect_to(l, pick(found, l->o.attempt)->ai_addr);
    }
    uv_freeaddrinfo(found);
    if (status != 0)
        down(l, kind, uv_strerror(status));
}

static int resolve(struct redis_link *l)
{
    char port[16];
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    snprintf(port, sizeof port, "%d", (int)l->o.address->port);
    int rc = uv_getaddrinfo(l->loop, &l->resolver, on_resolved, l->o.address->host, port, &hints);
    l->resolving = rc == 0;
    return rc;
}

static int connect_socket(struct redis_link *l)
{
    if (strlen(l->o.address->host) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return UV_ENAMETOOLONG;
    uv_pipe_init(l->loop, &l->io.pipe, 0);
    l->opened = true;
    l->io.handle.data = l;
    uv_pipe_connect(&l->connector, &l->io.pipe, l->o.address->host, on_connected);
    return 0;
}

int redis_link_open(uv_loop_t *loop, const struct redis_link_options *o, struct redis_link **out, struct error *e)
{
    struct redis_link *l = calloc(1, sizeof *l);
    *out = NULL;
    if (l == NULL || redis_reader_init(&l->reader, REPLY_MAX, 0) != 0) {
        free(l);
        return error_set(e, ERR_MEMORY, "out of memory");
    }
    l->o = *o;
    l->loop = loop;
    l->resolver.data = l->connector.data = l;
    int rc = o->address->host[0] == '/' ? connect_socket(l) : resolve(l);
    if (rc != 0) {
        redis_link_close(&l);
        return error_set(e, ERR_IO, "%s", uv_strerror(rc));
    }
    *out = l;
    return 0;
}
