/* Writes a message: the header through msgpack-c's packer into a bounded buffer, the tensors as they are. Fields that
 * are zero or empty are left out; the reader takes absence as zero. What the reader would refuse is refused here
 * already, where the mistake was made. */
#include "proto/msg.h"

#include <math.h>
#include <msgpack.h>
#include <string.h>
#include "proto/msg_wire.h"

struct header {
    uint8_t bytes[MSG_HEADER_MAX];
    size_t used;
};

static int header_write(void *into, const char *bytes, size_t size)
{
    struct header *h = into;
    if (size > sizeof h->bytes - h->used)
        return -1;
    memcpy(h->bytes + h->used, bytes, size);
    h->used += size;
    return 0;
}

static uint64_t field_number(const struct msg *m, const struct msg_field *f)
{
    const uint8_t *at = (const uint8_t *)m + f->offset;
    uint32_t narrow;
    uint64_t wide;
    memcpy(&wide, at, sizeof wide);
    memcpy(&narrow, at, sizeof narrow);
    return f->kind == FIELD_U32 ? narrow : wide;
}

static bool field_present(const struct msg *m, const struct msg_field *f)
{
    switch (f->kind) {
    case FIELD_VERSION:
        return true;
    case FIELD_U32:
    case FIELD_U64:
        return field_number(m, f) != 0;
    case FIELD_TEXT:
        return ((const char *)m)[f->offset] != 0;
    case FIELD_SCALARS:
        return m->scalar_count != 0;
    case FIELD_TENSORS:
        return m->tensor_count != 0;
    }
    return false;
}

static int pack_string(msgpack_packer *p, const char *text)
{
    size_t length = strlen(text);
    return msgpack_pack_str(p, length) || msgpack_pack_str_body(p, text, length);
}

/* Text goes to other people's logs: one line of printable ASCII, whatever it was made from. */
static int pack_text(msgpack_packer *p, const char *text)
{
    char clean[MSG_TEXT_MAX];
    size_t length = strnlen(text, sizeof clean - 1);
    for (size_t i = 0; i < length; i++)
        clean[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
    clean[length] = 0;
    return pack_string(p, clean);
}

static int pack_scalars(msgpack_packer *p, const struct msg *m)
{
    int failed = msgpack_pack_map(p, m->scalar_count);
    for (uint32_t i = 0; i < m->scalar_count; i++) {
        failed |= !isfinite(m->scalars[i].value);
        failed |= pack_string(p, m->scalars[i].name) || msgpack_pack_double(p, m->scalars[i].value);
    }
    return failed;
}

static int pack_tensor(msgpack_packer *p, const struct msg_tensor *t)
{
    int failed = msgpack_pack_array(p, 3) || pack_string(p, t->name) || pack_string(p, dtype_name(t->dtype)) ||
                 msgpack_pack_array(p, t->rank);
    for (uint32_t i = 0; i < t->rank; i++)
        failed |= msgpack_pack_uint64(p, t->shape[i]);
    return failed;
}

static int pack_field(msgpack_packer *p, const struct msg *m, const struct msg_field *f)
{
    int failed = pack_string(p, f->key);
    switch (f->kind) {
    case FIELD_VERSION:
        return failed || msgpack_pack_uint32(p, PROTO_VERSION);
    case FIELD_U32:
    case FIELD_U64:
        return failed || field_number(m, f) > f->max || msgpack_pack_uint64(p, field_number(m, f));
    case FIELD_TEXT:
        return failed || pack_text(p, (const char *)m + f->offset);
    case FIELD_SCALARS:
        return failed || pack_scalars(p, m);
    case FIELD_TENSORS:
        failed = failed || msgpack_pack_array(p, m->tensor_count);
        for (uint32_t i = 0; i < m->tensor_count; i++)
            failed = failed || pack_tensor(p, &m->tensors[i]);
        return failed;
    }
    return -1;
}

static int pack_header(const struct msg *m, struct header *h)
{
    msgpack_packer p;
    msgpack_packer_init(&p, h, header_write);
    size_t present = 0;
    for (size_t i = 0; i < msg_field_count; i++)
        present += field_present(m, &msg_fields[i]);
    int failed = msgpack_pack_map(&p, present);
    for (size_t i = 0; i < msg_field_count; i++)
        if (field_present(m, &msg_fields[i]))
            failed = failed || pack_field(&p, m, &msg_fields[i]);
    return failed ? ERR_RANGE : 0;
}

int msg_encode(const struct msg *m, struct buf **frames, size_t *n)
{
    struct header h;
    h.used = 0;
    *n = 0;
    int rc = pack_header(m, &h);
    if (rc)
        return rc;
    frames[0] = buf_copy(h.bytes, h.used);
    if (!frames[0])
        return ERR_MEMORY;
    for (uint32_t i = 0; i < m->tensor_count; i++)
        frames[1 + i] = buf_ref(m->tensors[i].data);
    *n = 1 + m->tensor_count;
    return 0;
}
