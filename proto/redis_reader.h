/* Replies of a Redis, or of whatever is mistaken for one, out of the bytes that it sends: hiredis' parser behind limits
 * on what it would otherwise trust. A reply may have reply_max bytes on the wire and its arrays elements_max elements
 * in all; more ends the reader, so that memory is bounded by these two, and time by the caller's deadline.
 *
 *   redis_reader_init(&r, 65536, 0);
 *   rc = redis_reader_feed(&r, bytes, n, &e);
 *   while (rc == 0 && (rc = redis_reader_next(&r, &reply, &e)) == 0 && reply != NULL)
 *       ..., freeReplyObject(reply); */
#ifndef DECANT_PROTO_REDIS_READER_H
#define DECANT_PROTO_REDIS_READER_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include "common/error.h"

struct redis_reader { /* must stay where it is: the parser points into it */
    size_t reply_max, elements_max;
    /* private */
    redisReader *parser;
    redisReplyObjectFunctions functions;
    void *(*create_array)(const redisReadTask *task, int elements); /* hiredis' own */
    size_t bytes;                                                   /* fed since the newest whole reply */
    size_t elements;                                                /* of the arrays of the reply that is being read */
    bool too_many;
};

int redis_reader_init(struct redis_reader *r, size_t reply_max, size_t elements_max); /* 0 or ERR_MEMORY */
void redis_reader_fini(struct redis_reader *r);
int redis_reader_feed(struct redis_reader *r, const void *bytes, size_t size, struct error *e); /* 0 or ERR_MEMORY */
/* The next whole reply, to be freed with freeReplyObject, or NULL when more bytes are needed. ERR_FORMAT when they are
 * not Redis' protocol, or beyond a limit; the reader is then of no further use. */
int redis_reader_next(struct redis_reader *r, redisReply **reply, struct error *e);
/* No byte waits for the rest of its reply. */
bool redis_reader_empty(const struct redis_reader *r);

#endif
