/* The event hooks of hiredis on a uv_poll_t. The handle outlives the context until its close callback has run. */
#include "server/prototype/hiredis_uv.h"

#include <stdlib.h>
#include "common/error.h"

struct adapter {
    uv_poll_t poll;
    redisAsyncContext *context; /* NULL once hiredis has let go of it */
    int events;                 /* UV_READABLE | UV_WRITABLE that hiredis waits for */
};

static void on_poll(uv_poll_t *handle, int status, int events);

static void update(struct adapter *a)
{
    if (a->events)
        uv_poll_start(&a->poll, a->events, on_poll);
    else
        uv_poll_stop(&a->poll);
}

/* Either handler may free the context, and with it clear a->context. libuv stops the handle on an error, hence update.
 */
static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct adapter *a = handle->data;
    if (status != 0)
        events = UV_READABLE | UV_WRITABLE;
    if (a->context != NULL && (events & UV_READABLE))
        redisAsyncHandleRead(a->context);
    if (a->context != NULL && (events & UV_WRITABLE))
        redisAsyncHandleWrite(a->context);
    if (a->context != NULL && status != 0)
        update(a);
}

static void add_read(void *data)
{
    struct adapter *a = data;
    a->events |= UV_READABLE;
    update(a);
}

static void del_read(void *data)
{
    struct adapter *a = data;
    a->events &= ~UV_READABLE;
    update(a);
}

static void add_write(void *data)
{
    struct adapter *a = data;
    a->events |= UV_WRITABLE;
    update(a);
}

static void del_write(void *data)
{
    struct adapter *a = data;
    a->events &= ~UV_WRITABLE;
    update(a);
}

static void on_close(uv_handle_t *handle)
{
    free(handle->data);
}

static void cleanup(void *data)
{
    struct adapter *a = data;
    a->context = NULL;
    uv_close((uv_handle_t *)&a->poll, on_close);
}

int hiredis_uv_attach(redisAsyncContext *context, uv_loop_t *loop)
{
    struct adapter *a = calloc(1, sizeof *a);
    if (a == NULL)
        return ERR_MEMORY;
    if (uv_poll_init(loop, &a->poll, context->c.fd) != 0) {
        free(a);
        return ERR_IO;
    }
    a->poll.data = a;
    a->context = context;
    context->ev.data = a;
    context->ev.addRead = add_read;
    context->ev.delRead = del_read;
    context->ev.addWrite = add_write;
    context->ev.delWrite = del_write;
    context->ev.cleanup = cleanup;
    return 0;
}
