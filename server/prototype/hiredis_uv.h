/* hiredis' asynchronous context on a libuv loop. hiredis 0.14 ships an adapter that ignores poll errors, so that after
 * a refused connection no callback ever comes; this one hands every error to hiredis as readiness, upon which its next
 * read or write fails and reports. */
#ifndef DECANT_SERVER_PROTOTYPE_HIREDIS_UV_H
#define DECANT_SERVER_PROTOTYPE_HIREDIS_UV_H

#include <hiredis/async.h>
#include <uv.h>

/* Attaches a fresh context; the adapter's memory is released on the loop after hiredis frees the context.
 * 0, ERR_MEMORY or ERR_IO. */
int hiredis_uv_attach(redisAsyncContext *context, uv_loop_t *loop);

#endif
