/* A connection to a Redis on a libuv loop, for a caller who trusts nothing that comes back. Commands go out whole;
 * replies come in order, each bounded in bytes, none with arrays (proto/redis_reader.h). Whoever answers what was not
 * asked, as a mail server does that greets, is cut off. Time is the caller's affair.
 *
 *   rc = redis_link_open(loop, &options, &link, &e);
 *   on_up:    redis_link_send(link, wire, size);        // each is answered once
 *   on_reply: ...
 *   on_down:  the link is gone
 *   redis_link_close(&link);                             // no more calls; the memory goes with the loop's next turns
 */
#ifndef DECANT_SERVER_PROTOTYPE_REDIS_LINK_H
#define DECANT_SERVER_PROTOTYPE_REDIS_LINK_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <uv.h>
#include "common/error.h"
#include "proto/redis_address.h"

struct redis_link;

struct redis_link_options {
    const struct redis_address *address; /* outlives the link; the login is the caller's affair */
    uint32_t attempt;                    /* a name may have several addresses: tries take turns */
    void (*on_up)(void *arg);
    void (*on_reply)(void *arg, const redisReply *reply);
    /* kind: a word that is the same for the same trouble ("greeting", "closed" ...); text: for people, may have bytes
     * from the other side. The link frees itself. */
    void (*on_down)(void *arg, const char *kind, const char *text);
    void *arg;
};

/* Begins to connect. ERR_MEMORY, ERR_IO. */
int redis_link_open(uv_loop_t *loop, const struct redis_link_options *o, struct redis_link **out, struct error *e);
/* One command in wire form, copied. False when it could not be sent; the caller gives up the link then. */
bool redis_link_send(struct redis_link *l, const void *wire, size_t size);
/* The most bytes that a reply may have from now on. */
void redis_link_limit(struct redis_link *l, size_t reply_max);
void redis_link_close(struct redis_link **out); /* NULL-safe; also within a callback */

#endif
