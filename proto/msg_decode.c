/* Reads a message from foreign bytes. Three passes, each of which bounds the next: msg_scan proves that the header is
 * one small MessagePack object, the field table says what each key may hold, and the declared tensors are held against
 * the frames that came. Nothing here asserts on what was received. Any thread. */
#include "proto/msg.h"

#include <math.h>
#include <msgpack.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "proto/msg_wire.h"

struct decoder {
    struct buf *const *frames; /* header, then tensors */
    size_t frame_count;
    struct msg *out;
    enum reason reason;
    struct error *e;
};

__attribute__((format(printf, 3, 4))) static int refuse(struct decoder *d, enum reason reason, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->reason = reason;
    return error_set(d->e, ERR_FORMAT, "%s: %s", reason_name(reason), text);
}

static bool is_string(const msgpack_object *o, const char *text)
{
    size_t length = strlen(text);
    return o->type == MSGPACK_OBJECT_STR && o->via.str.size == length && memcmp(o->via.str.ptr, text, length) == 0;
}

/* Empty ones may have no pointer. */
static bool same_string(const msgpack_object *a, const msgpack_object *b)
{
    uint32_t size = a->via.str.size;
    return b->via.str.size == size && (size == 0 || memcmp(a->via.str.ptr, b->via.str.ptr, size) == 0);
}

/* Keys of a map: strings, none twice. */
static int check_keys(struct decoder *d, const msgpack_object_map *map, size_t limit)
{
    if (map->size > limit)
        return refuse(d, REASON_TOO_LARGE, "a map of %u keys, limit %zu", map->size, limit);
    for (uint32_t i = 0; i < map->size; i++) {
        if (map->ptr[i].key.type != MSGPACK_OBJECT_STR)
            return refuse(d, REASON_BAD_HEADER, "key %u is not a string", i);
        for (uint32_t j = 0; j < i; j++)
            if (same_string(&map->ptr[i].key, &map->ptr[j].key))
                return refuse(d, REASON_BAD_HEADER, "keys %u and %u are the same", j, i);
    }
    return 0;
}

/* A name into out (room for TENSOR and scalar names); false when it is not one. */
static bool read_name(const msgpack_object *o, char out[24])
{
    if (o->type != MSGPACK_OBJECT_STR || !msg_name_valid(o->via.str.ptr, o->via.str.size))
        return false;
    memcpy(out, o->via.str.ptr, o->via.str.size);
    out[o->via.str.size] = 0;
    return true;
}

static int read_number(struct decoder *d, const struct msg_field *f, const msgpack_object *o)
{
    if (o->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return refuse(d, REASON_BAD_FIELD, "%s is not an unsigned integer", f->key);
    if (o->via.u64 > f->max)
        return refuse(d, REASON_OUT_OF_RANGE, "%s is over %llu", f->key, (unsigned long long)f->max);
    uint8_t *at = (uint8_t *)d->out + f->offset;
    uint32_t narrow = (uint32_t)o->via.u64;
    if (f->kind == FIELD_U32)
        memcpy(at, &narrow, sizeof narrow);
    else
        memcpy(at, &o->via.u64, sizeof o->via.u64);
    return 0;
}

static int read_text(struct decoder *d, const struct msg_field *f, const msgpack_object *o)
{
    if (o->type != MSGPACK_OBJECT_STR || o->via.str.size >= f->max)
        return refuse(d, REASON_BAD_FIELD, "%s is not a string of less than %llu bytes", f->key,
                      (unsigned long long)f->max);
    for (uint32_t i = 0; i < o->via.str.size; i++)
        if (o->via.str.ptr[i] < 0x20 || o->via.str.ptr[i] == 0x7f)
            return refuse(d, REASON_BAD_FIELD, "%s has bytes that are not printable ASCII", f->key);
    char *at = (char *)d->out + f->offset;
    memcpy(at, o->via.str.ptr, o->via.str.size);
    at[o->via.str.size] = 0;
    return 0;
}

static bool read_double(const msgpack_object *o, double *out)
{
    switch (o->type) {
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        *out = o->via.f64;
        return true;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        *out = (double)o->via.u64;
        return true;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        *out = (double)o->via.i64;
        return true;
    default:
        return false;
    }
}

static int read_scalars(struct decoder *d, const msgpack_object *o)
{
    if (o->type != MSGPACK_OBJECT_MAP)
        return refuse(d, REASON_BAD_FIELD, "scalars is not a map");
    int rc = check_keys(d, &o->via.map, MSG_SCALARS_MAX);
    for (uint32_t i = 0; rc == 0 && i < o->via.map.size; i++) {
        struct msg_scalar *s = &d->out->scalars[i];
        if (!read_name(&o->via.map.ptr[i].key, s->name) || !read_double(&o->via.map.ptr[i].val, &s->value))
            return refuse(d, REASON_BAD_FIELD, "scalar %u is not a name [a-z0-9_.] and a number", i);
        if (!isfinite(s->value))
            return refuse(d, REASON_NON_FINITE, "scalar %s is not finite", s->name);
        d->out->scalar_count = i + 1;
    }
    return rc;
}

static int read_shape(struct decoder *d, const msgpack_object *o, struct msg_tensor *t)
{
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size > TENSOR_RANK_MAX)
        return refuse(d, REASON_BAD_SHAPE, "%s: shape is not a list of at most %d", t->name, TENSOR_RANK_MAX);
    t->rank = o->via.array.size;
    for (uint32_t i = 0; i < t->rank; i++) {
        if (o->via.array.ptr[i].type != MSGPACK_OBJECT_POSITIVE_INTEGER)
            return refuse(d, REASON_BAD_SHAPE, "%s: dimension %u is not an unsigned integer", t->name, i);
        t->shape[i] = o->via.array.ptr[i].via.u64;
    }
    return 0;
}

static int read_dtype(struct decoder *d, const msgpack_object *o, struct msg_tensor *t)
{
    char name[24] = "";
    if (o->type == MSGPACK_OBJECT_STR && o->via.str.size < sizeof name)
        memcpy(name, o->via.str.ptr, o->via.str.size);
    bool whole = o->type == MSGPACK_OBJECT_STR && strlen(name) == o->via.str.size;
    return whole && dtype_parse(name, &t->dtype) == 0 ? 0 : refuse(d, REASON_BAD_DTYPE, "%s: unknown dtype", t->name);
}

/* Takes a reference of the frame, or copies it when its memory is not aligned for the elements. */
static int take_frame(struct decoder *d, struct msg_tensor *t, struct buf *frame)
{
    size_t bytes;
    if (!msg_tensor_bytes(t->dtype, t->rank, t->shape, &bytes) || bytes != frame->size)
        return refuse(d, REASON_BAD_SHAPE, "%s: the frame has %zu bytes, its shape says otherwise", t->name,
                      frame->size);
    bool aligned = frame->data && (uintptr_t)frame->data % dtype_size(t->dtype) == 0;
    t->data = aligned ? buf_ref(frame) : buf_copy(frame->data, frame->size);
    return t->data ? 0 : ERR_MEMORY;
}

static int read_tensor(struct decoder *d, const msgpack_object *o, uint32_t i)
{
    struct msg_tensor *t = &d->out->tensors[i];
    if (o->type != MSGPACK_OBJECT_ARRAY || o->via.array.size != 3 || !read_name(&o->via.array.ptr[0], t->name))
        return refuse(d, REASON_BAD_FIELD, "tensor %u is not [name, dtype, shape]", i);
    for (uint32_t j = 0; j < i; j++)
        if (strcmp(d->out->tensors[j].name, t->name) == 0)
            return refuse(d, REASON_BAD_FIELD, "two tensors are named %s", t->name);
    int rc = read_dtype(d, &o->via.array.ptr[1], t);
    rc = rc ? rc : read_shape(d, &o->via.array.ptr[2], t);
    rc = rc ? rc : take_frame(d, t, d->frames[1 + i]);
    if (rc == 0)
        d->out->tensor_count = i + 1;
    return rc;
}

static int read_tensors(struct decoder *d, const msgpack_object *o)
{
    if (o->type != MSGPACK_OBJECT_ARRAY)
        return refuse(d, REASON_BAD_FIELD, "tensors is not a list");
    if (o->via.array.size > MSG_TENSORS_MAX)
        return refuse(d, REASON_TOO_LARGE, "%u tensors, limit %d", o->via.array.size, MSG_TENSORS_MAX);
    if (o->via.array.size != d->frame_count - 1)
        return refuse(d, REASON_BAD_SHAPE, "%u tensors declared, %zu frames came", o->via.array.size,
                      d->frame_count - 1);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < o->via.array.size; i++)
        rc = read_tensor(d, &o->via.array.ptr[i], i);
    return rc;
}

static int read_field(struct decoder *d, const struct msg_field *f, const msgpack_object *value)
{
    switch (f->kind) {
    case FIELD_VERSION:
        return 0; /* checked before anything else */
    case FIELD_U32:
    case FIELD_U64:
        return read_number(d, f, value);
    case FIELD_TEXT:
        return read_text(d, f, value);
    case FIELD_SCALARS:
        return read_scalars(d, value);
    case FIELD_TENSORS:
        return read_tensors(d, value);
    }
    return 0;
}

static const msgpack_object *find(const msgpack_object_map *map, const char *key)
{
    for (uint32_t i = 0; i < map->size; i++)
        if (is_string(&map->ptr[i].key, key))
            return &map->ptr[i].val;
    return NULL;
}

static int check_version(struct decoder *d, const msgpack_object_map *map)
{
    const msgpack_object *version = find(map, "version");
    if (!version || version->type != MSGPACK_OBJECT_POSITIVE_INTEGER)
        return refuse(d, REASON_BAD_HEADER, "no version");
    if (version->via.u64 != PROTO_VERSION)
        return refuse(d, REASON_BAD_VERSION, "version %llu, this end speaks %d", (unsigned long long)version->via.u64,
                      PROTO_VERSION);
    return 0;
}

/* Fields are read in the table's order, not the sender's, so that type, step and slot are known when a later one fails.
 */
static int read_map(struct decoder *d, const msgpack_object_map *map)
{
    int rc = check_keys(d, map, MSG_KEYS_MAX);
    rc = rc ? rc : check_version(d, map);
    for (size_t i = 0; rc == 0 && i < msg_field_count; i++) {
        const msgpack_object *value = find(map, msg_fields[i].key);
        if (value)
            rc = read_field(d, &msg_fields[i], value);
        else if (msg_fields[i].kind == FIELD_TENSORS && d->frame_count != 1)
            rc = refuse(d, REASON_BAD_SHAPE, "%zu frames came and no tensor is declared", d->frame_count - 1);
    }
    return rc;
}

static int check_type(struct decoder *d)
{
    uint32_t type = d->out->type;
    if (type > 0 && type < MSG_TYPE_END)
        return 0;
    d->out->type = (enum msg_type)0;
    return refuse(d, REASON_BAD_TYPE, "unknown type %u", type);
}

static int read_header(struct decoder *d, const struct buf *header)
{
    if (header->size > MSG_HEADER_MAX)
        return refuse(d, REASON_TOO_LARGE, "a header of %zu bytes, limit %d", header->size, MSG_HEADER_MAX);
    if (!msg_scan(header->data, header->size))
        return refuse(d, REASON_BAD_HEADER, "not one MessagePack object of depth <= %d", MSG_DEPTH_MAX);
    msgpack_unpacked tree;
    msgpack_unpacked_init(&tree);
    size_t offset = 0;
    int rc;
    if (msgpack_unpack_next(&tree, (const char *)header->data, header->size, &offset) != MSGPACK_UNPACK_SUCCESS)
        rc = refuse(d, REASON_BAD_HEADER, "not MessagePack");
    else if (tree.data.type != MSGPACK_OBJECT_MAP)
        rc = refuse(d, REASON_BAD_HEADER, "not a map");
    else
        rc = read_map(d, &tree.data.via.map);
    msgpack_unpacked_destroy(&tree);
    return rc ? rc : check_type(d);
}

/* What the answer to a refused message needs to name it; all else is dropped. */
static void keep_identity(struct msg *m)
{
    msg_fini(m);
    struct msg kept = {.type = m->type, .step = m->step, .slot = m->slot, .slots = m->slots, .worker = m->worker};
    *m = kept;
}

int msg_decode(struct buf *const *frames, size_t n, struct msg *out, enum reason *why, struct error *e)
{
    struct decoder d = {.frames = frames, .frame_count = n, .out = out, .reason = REASON_BAD_HEADER, .e = e};
    memset(out, 0, sizeof *out);
    int rc = n == 0 ? refuse(&d, REASON_BAD_HEADER, "no frame") : read_header(&d, frames[0]);
    if (rc == 0)
        return 0;
    keep_identity(out);
    if (out->type >= MSG_TYPE_END)
        out->type = (enum msg_type)0;
    if (why)
        *why = d.reason;
    return rc;
}
