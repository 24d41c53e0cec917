/* What comes from a Redis and from whoever writes its address: an address, an INFO, and the bytes of replies, cut in
 * pieces. Limits hold, and what is let through is what it should be. */
#include <ctype.h>
#include <stdlib.h>
#include "proto/redis_address.h"
#include "proto/redis_info.h"
#include "proto/redis_reader.h"
#include "tests/fuzz/fuzz.h"

enum { REPLY_MAX = 512, ELEMENTS_MAX = 32 };

static void check_address(const struct buf *frame)
{
    struct redis_address a = {.host = "h", .port = 6379};
    char *text = calloc(1, frame->size + 1), shown[REDIS_ADDRESS_TEXT_MAX];
    memcpy(text, frame->data, frame->size);
    if (redis_address_parse(text, &a, NULL) == 0) {
        ASSERT(a.host[0] != '\0' && a.port >= 1 && a.port <= 65535 && a.db >= 0 && a.db <= REDIS_DB_MAX);
        ASSERT(strlen(redis_address_text(&a, shown)) < sizeof shown);
    } else {
        ASSERT(strcmp(a.host, "h") == 0 && a.port == 6379 && a.login.password[0] == '\0');
    }
    redis_address_hide(text);
    free(text);
}

static void check_info(const struct buf *frame)
{
    struct redis_judgement j;
    redis_judge((const char *)frame->data, frame->size, 1 << 20, &j);
    ASSERT((j.fitness == REDIS_FIT) == (j.text[0] == '\0'));
    for (const char *p = j.version; *p != '\0'; p++)
        ASSERT(isgraph((unsigned char)*p) && *p != '"');
}

static size_t elements_of(const redisReply *reply)
{
    size_t n = reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;
    for (size_t i = 0; reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
        n += elements_of(reply->element[i]);
    return n;
}

static int read_piece(struct redis_reader *r, const struct buf *piece)
{
    redisReply *reply;
    int rc = redis_reader_feed(r, piece->data, piece->size, NULL);
    while (rc == 0 && (rc = redis_reader_next(r, &reply, NULL)) == 0 && reply != NULL) {
        ASSERT(elements_of(reply) <= ELEMENTS_MAX);
        freeReplyObject(reply);
    }
    ASSERT(rc != 0 || r->bytes <= REPLY_MAX);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf *frames[FUZZ_FRAMES_MAX];
    size_t n = fuzz_frames(data, size, frames);
    struct redis_reader r;
    ASSERT(redis_reader_init(&r, REPLY_MAX, ELEMENTS_MAX) == 0);
    if (n > 0)
        check_address(frames[0]);
    if (n > 1)
        check_info(frames[1]);
    for (size_t i = 2; i < n && read_piece(&r, frames[i]) == 0; i++)
        ;
    redis_reader_fini(&r);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
    return 0;
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static const char *const seeds[][4] = {
        {"redis://me:s3%40cret@[::1]:6379/3?db=4&password=x", "redis_version:7.0.15\r\nrole:slave\r\nmaster_host:a\r\n",
         "+OK\r\n$5\r\nhel", "lo\r\n*2\r\n:7\r\n*1\r\n$-1\r\n-ERR no\r\n"},
        {"unix://:p@/run/redis.sock?db=1", "redis_version:6.2\ncluster_enabled:1\nmaxmemory:1\nused_memory:2\n",
         "*2147483647\r\n", "$400000000000\r\nxxxxxxxx"},
        {"[fe80::1%eth0]:6380", "maxmemory_policy:allkeys-lru\r\nmaxmemory:9\r\nredis_version:9\r\n", "*3\r\n+a\r\n",
         "-b\r\n:-3\r\n"},
    };
    size_t size = 0;
    if (i >= sizeof seeds / sizeof seeds[0])
        return 0;
    for (size_t k = 0; k < 4; k++)
        size = fuzz_add_frame(out, size, room, seeds[i][k], strlen(seeds[i][k]));
    return size;
}
