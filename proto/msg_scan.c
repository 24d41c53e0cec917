/* A bounded check of foreign MessagePack before msgpack-c sees it. msgpack-c allocates containers by their declared
 * size, so 155 bytes can reserve a gigabyte; here every declared count is compared with the bytes that are left. It
 * allocates nothing. The format: https://github.com/msgpack/msgpack/blob/master/spec.md */
#include "proto/msg_wire.h"

struct cursor {
    const uint8_t *at, *end;
};

enum unit { INVALID, BYTES, ITEMS, PAIRS };

/* How an object whose first byte is 0xc0 + i goes on: a big-endian count of `count_bytes`, then `fixed` bytes and
 * `count` units. */
static const struct form {
    uint8_t count_bytes, fixed;
    enum unit unit;
} forms[32] = {
    {0, 0, BYTES}, {0, 0, INVALID}, {0, 0, BYTES}, {0, 0, BYTES},                 /* nil, -, false, true */
    {1, 0, BYTES}, {2, 0, BYTES},   {4, 0, BYTES},                                /* bin 8, 16, 32 */
    {1, 1, BYTES}, {2, 1, BYTES},   {4, 1, BYTES},                                /* ext 8, 16, 32 */
    {0, 4, BYTES}, {0, 8, BYTES},                                                 /* float 32, 64 */
    {0, 1, BYTES}, {0, 2, BYTES},   {0, 4, BYTES}, {0, 8, BYTES},                 /* uint 8 .. 64 */
    {0, 1, BYTES}, {0, 2, BYTES},   {0, 4, BYTES}, {0, 8, BYTES},                 /* int 8 .. 64 */
    {0, 2, BYTES}, {0, 3, BYTES},   {0, 5, BYTES}, {0, 9, BYTES}, {0, 17, BYTES}, /* fixext 1 .. 16 */
    {1, 0, BYTES}, {2, 0, BYTES},   {4, 0, BYTES},                                /* str 8, 16, 32 */
    {2, 0, ITEMS}, {4, 0, ITEMS},                                                 /* array 16, 32 */
    {2, 0, PAIRS}, {4, 0, PAIRS},                                                 /* map 16, 32 */
};

static bool skip(struct cursor *c, uint64_t bytes)
{
    if (bytes > (uint64_t)(c->end - c->at))
        return false;
    c->at += bytes;
    return true;
}

/* The rest of an object: its payload is stepped over, or the number of objects inside it reported. */
static bool scan_units(struct cursor *c, enum unit unit, uint64_t count, uint64_t *children)
{
    *children = unit == ITEMS ? count : unit == PAIRS ? 2 * count : 0;
    if (unit == BYTES)
        return skip(c, count);
    return unit != INVALID && *children <= (uint64_t)(c->end - c->at);
}

static bool scan_form(struct cursor *c, const struct form *form, uint64_t *children)
{
    uint64_t count = 0;
    if (form->count_bytes > c->end - c->at)
        return false;
    for (unsigned i = 0; i < form->count_bytes; i++)
        count = count << 8 | *c->at++;
    return skip(c, form->fixed) && scan_units(c, form->unit, count, children);
}

/* The head of one object; its children follow. */
static bool scan_object(struct cursor *c, uint64_t *children)
{
    *children = 0;
    if (c->at == c->end)
        return false;
    uint8_t first = *c->at++;
    if (first < 0x80 || first >= 0xe0) /* fixint */
        return true;
    if (first < 0x90)
        return scan_units(c, PAIRS, first & 0x0f, children);
    if (first < 0xa0)
        return scan_units(c, ITEMS, first & 0x0f, children);
    if (first < 0xc0)
        return scan_units(c, BYTES, first & 0x1f, children);
    return scan_form(c, &forms[first - 0xc0], children);
}

bool msg_scan(const uint8_t *bytes, size_t size)
{
    struct cursor c = {bytes, bytes + size};
    uint64_t open[MSG_DEPTH_MAX + 1] = {1}; /* objects still to come at each depth */
    unsigned depth = 0;
    for (;;) {
        while (open[depth] == 0) {
            if (depth == 0)
                return c.at == c.end;
            depth--;
        }
        open[depth]--;
        uint64_t children;
        if (!scan_object(&c, &children))
            return false;
        if (children == 0)
            continue;
        if (depth == MSG_DEPTH_MAX)
            return false;
        open[++depth] = children;
    }
}
