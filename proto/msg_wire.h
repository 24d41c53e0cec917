/* Inside proto/ only: what the writer and the reader of a header share, so that the two cannot drift apart. One table
 * lists every key with the field of `struct msg` it fills and its largest value; docs/PROTOCOL.md prints the same list.
 */
#ifndef DECANT_PROTO_MSG_WIRE_H
#define DECANT_PROTO_MSG_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/safetensors.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensor frames are little-endian and used in place");

enum {
    MSG_KEYS_MAX = 64, /* pairs of a header map, unknown keys included: three times what we know */
    MSG_DEPTH_MAX = 4, /* header map, tensor list, tensor, shape */
};

/* step and seq: exact in every language's double, and + 1 is safe. */
#define MSG_COUNTER_MAX ((UINT64_C(1) << 53) - 1)
/* One dimension of a shape, before the product is checked. */
#define MSG_DIMENSION_MAX (UINT64_C(1) << 40)

enum field_kind { FIELD_VERSION, FIELD_U32, FIELD_U64, FIELD_TEXT, FIELD_SCALARS, FIELD_TENSORS };

struct msg_field {
    const char *key;
    enum field_kind kind;
    size_t offset; /* in struct msg */
    uint64_t max;  /* largest number, or size of the text with its NUL */
};

extern const struct msg_field msg_fields[];
extern const size_t msg_field_count;

/* Names of tensors and scalars: 1..23 of [a-z0-9_.]. */
bool msg_name_valid(const char *name, size_t length);
/* Bytes of a tensor of that shape; false when a dimension or the product is beyond what memory could hold. */
bool msg_tensor_bytes(enum dtype dtype, uint32_t rank, const uint64_t *shape, size_t *bytes);

/* True when [bytes, bytes+size) is exactly one well-formed MessagePack object nested at most MSG_DEPTH_MAX deep whose
 * containers do not claim more items than there are bytes: what must hold before an object tree is built from it. */
bool msg_scan(const uint8_t *bytes, size_t size);

#endif
