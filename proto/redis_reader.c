/* hiredis allocates an array by the number of elements that its header claims, and keeps a string's bytes until all of
 * them have come. The first is refused before it happens, in the parser's own hook; the second is bounded by counting
 * what has been fed since the last whole reply. */
#include "proto/redis_reader.h"

#include <string.h>

static void *create_array(const redisReadTask *task, int elements)
{
    struct redis_reader *r = task->privdata;
    size_t wanted = elements > 0 ? (size_t)elements : 0;
    if (wanted > r->elements_max - r->elements) {
        r->too_many = true;
        return NULL; /* which the parser takes for want of memory, and gives up */
    }
    r->elements += wanted;
    return r->create_array(task, elements);
}

int redis_reader_init(struct redis_reader *r, size_t reply_max, size_t elements_max)
{
    memset(r, 0, sizeof *r);
    r->reply_max = reply_max;
    r->elements_max = elements_max;
    r->parser = redisReaderCreate();
    if (r->parser == NULL)
        return ERR_MEMORY;
    r->functions = *r->parser->fn;
    r->create_array = r->functions.createArray;
    r->functions.createArray = create_array;
    r->parser->fn = &r->functions;
    r->parser->privdata = r;
    return 0;
}

void redis_reader_fini(struct redis_reader *r)
{
    if (r->parser != NULL)
        redisReaderFree(r->parser);
    r->parser = NULL;
}

int redis_reader_feed(struct redis_reader *r, const void *bytes, size_t size, struct error *e)
{
    r->bytes += size;
    if (redisReaderFeed(r->parser, bytes, size) == REDIS_OK)
        return 0;
    return error_set(e, ERR_MEMORY, "out of memory for a reply");
}

int redis_reader_next(struct redis_reader *r, redisReply **reply, struct error *e)
{
    void *next = NULL;
    *reply = NULL;
    if (redisReaderGetReply(r->parser, &next) != REDIS_OK) {
        if (r->too_many)
            return error_set(e, ERR_FORMAT, "a reply of more than %zu elements", r->elements_max);
        return error_set(e, ERR_FORMAT, "%s", r->parser->errstr);
    }
    if (next == NULL && r->bytes > r->reply_max)
        return error_set(e, ERR_FORMAT, "a reply of more than %zu bytes", r->reply_max);
    if (next != NULL) {
        r->bytes = r->parser->len - r->parser->pos;
        r->elements = 0;
    }
    *reply = next;
    return 0;
}

bool redis_reader_empty(const struct redis_reader *r)
{
    return r->bytes == 0;
}
