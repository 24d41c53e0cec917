/* Writer of safetensors files, byte for byte:
 *
 *   offset   bytes
 *   0        8      N, little-endian, a multiple of 8
 *   8        N      {"__metadata__":{"checksum":"<16 hex digits>",KEY:VALUE,...},
 *                    NAME:{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...} and spaces up to N
 *   8 + N           the tensors' bytes, without gaps, in the order of the header
 *
 * Valid when N and all lengths fit the file and the checksum matches: xxh64 (seed 0) of the whole file in which the 16
 * digits read "0000000000000000". So a flipped bit is found wherever it is, in a weight or in a step number. A crash
 * while writing leaves the former file (files.h). */
#include <endian.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/safetensors_internal.h"

enum { PIECE_BYTES = 1 << 20 }; /* of rows that are made for the file: what a cache holds */

static const char checksum_lead[] = "{\"__metadata__\":{\"checksum\":\"";
static const char checksum_blank[] = "0000000000000000";

int safetensors_tensor_size(enum dtype dtype, uint32_t rank, const uint64_t *shape, size_t *size)
{
    size_t bytes = dtype_size(dtype);
    if (bytes == 0 || rank > TENSOR_RANK_MAX)
        return ERR_RANGE;
    for (uint32_t i = 0; i < rank; i++)
        if (__builtin_mul_overflow(bytes, shape[i], &bytes))
            return ERR_RANGE;
    *size = bytes;
    return 0;
}

static void checksum_digits(XXH64_state_t *state, char out[SAFETENSORS_CHECKSUM_DIGITS + 1])
{
    snprintf(out, SAFETENSORS_CHECKSUM_DIGITS + 1, "%016" PRIx64, (uint64_t)XXH64_digest(state));
}

void safetensors_checksum(const struct file_part *parts, size_t n, char out[SAFETENSORS_CHECKSUM_DIGITS + 1])
{
    XXH64_state_t *state = XXH64_createState();
    ASSERT(state != NULL);
    XXH64_reset(state, 0);
    for (size_t i = 0; i < n; i++)
        if (parts[i].size > 0)
            XXH64_update(state, parts[i].data, parts[i].size);
    checksum_digits(state, out);
    XXH64_freeState(state);
}

/* Adds a new key; false for one that is there already, bad UTF-8 in it, or a value that could not be made. */
static bool add_new(json_t *object, const char *key, json_t *value)
{
    if (value != NULL && json_object_get(object, key) == NULL)
        return json_object_set_new(object, key, value) == 0;
    json_decref(value);
    return false;
}

static int add_metadata(json_t *root, const struct metadata_entry *meta, size_t n, struct error *e)
{
    json_t *object = json_object();
    bool good = add_new(root, "__metadata__", object) && add_new(object, "checksum", json_string(checksum_blank));
    for (size_t i = 0; good && i < n; i++)
        if (!add_new(object, meta[i].key, json_string(meta[i].value)))
            return error_set(e, ERR_RANGE, "metadata '%s': given twice, reserved, or not UTF-8", meta[i].key);
    return good ? 0 : error_set(e, ERR_MEMORY, "no memory for the header");
}

static json_t *tensor_entry(const struct tensor_view *t, size_t begin)
{
    json_t *shape = json_array();
    for (uint32_t i = 0; i < t->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", dtype_name(t->dtype), "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)begin + (json_int_t)t->size);
}

static int check_tensor(const struct tensor_view *t, size_t begin, struct error *e)
{
    size_t size;
    if (t->name[0] == '\0')
        return error_set(e, ERR_RANGE, "tensor without a name at byte %zu of the data", begin);
    if (safetensors_tensor_size(t->dtype, t->rank, t->shape, &size) != 0 || size != t->size)
        return error_set(e, ERR_RANGE, "tensor '%s': %zu bytes do not match its dtype and shape", t->name, t->size);
    if (begin % dtype_size(t->dtype) != 0)
        return error_set(e, ERR_RANGE, "tensor '%s': misaligned at %zu; put tensors of wide elements first", t->name,
                         begin);
    return 0;
}

static int add_tensors(json_t *root, const struct tensor_view *tensors, size_t n, struct error *e)
{
    size_t begin = 0;
    for (size_t i = 0; i < n; begin += tensors[i++].size) {
        int rc = check_tensor(&tensors[i], begin, e);
        if (rc != 0)
            return rc;
        if (!add_new(root, tensors[i].name, tensor_entry(&tensors[i], begin)))
            return error_set(e, ERR_RANGE, "tensor '%s': given twice, reserved, or not UTF-8", tensors[i].name);
    }
    return 0;
}

/* The length, the JSON with a blank checksum, the padding. */
static int build_header(const struct tensor_view *tensors, size_t n, const struct metadata_entry *meta, size_t n_meta,
                        struct buf **out, struct error *e)
{
    json_t *root = json_object();
    int rc = add_metadata(root, meta, n_meta, e);
    if (rc == 0)
        rc = add_tensors(root, tensors, n, e);
    char *text = rc == 0 ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (rc != 0)
        return rc;
    size_t length = text != NULL ? strlen(text) : 0, padded = (length + 7) / 8 * 8;
    *out = buf_new(SAFETENSORS_PREFIX + padded);
    if (text == NULL || *out == NULL) {
        rc = error_set(e, ERR_MEMORY, "no memory for the header");
        buf_unref(out);
    } else if (padded > SAFETENSORS_HEADER_MAX) {
        rc = error_set(e, ERR_RANGE, "header of %zu bytes, at most %d are allowed", padded, SAFETENSORS_HEADER_MAX);
        buf_unref(out);
    } else {
        uint64_t prefix = htole64(padded);
        memcpy((*out)->data, &prefix, SAFETENSORS_PREFIX);
        memcpy((*out)->data + SAFETENSORS_PREFIX, text, length);
        memset((*out)->data + SAFETENSORS_PREFIX + length, ' ', padded - length);
    }
    free(text);
    return rc;
}

/* The file in pieces: the header, tensors that are there as a whole, others some rows at a time. */
struct pieces {
    const struct buf *header;
    const struct tensor_view *tensors;
    size_t n, tensor; /* tensor: the next one; of which */
    uint64_t row;     /* rows before this one have been given */
    uint8_t *made;    /* (PIECE_BYTES or a row, whichever is more) */
    bool begun;
};

static uint64_t rows_of(const struct tensor_view *t)
{
    return t->rank > 0 ? t->shape[0] : 1;
}

static size_t row_bytes(const struct tensor_view *t)
{
    return rows_of(t) > 0 ? t->size / rows_of(t) : 0;
}

static bool next_rows(struct pieces *p, const struct tensor_view *t, struct file_part *part)
{
    uint64_t fit = PIECE_BYTES / row_bytes(t), left = rows_of(t) - p->row;
    uint64_t n = fit == 0 ? 1 : fit < left ? fit : left;
    t->rows(t->data, p->row, n, p->made);
    *part = (struct file_part){p->made, n * row_bytes(t)};
    p->row += n;
    if (p->row == rows_of(t)) {
        p->row = 0;
        p->tensor++;
    }
    return true;
}

static bool next_piece(void *context, struct file_part *part)
{
    struct pieces *p = context;
    if (!p->begun) {
        p->begun = true;
        *part = (struct file_part){p->header->data, p->header->size};
        return true;
    }
    if (p->tensor == p->n)
        return false;
    const struct tensor_view *t = &p->tensors[p->tensor];
    if (t->rows != NULL && t->size > 0)
        return next_rows(p, t, part);
    *part = (struct file_part){t->data, t->size};
    p->tensor++;
    return true;
}

/* Room for the largest piece that is made, if any is: 0 or ERR_MEMORY. */
static int reserve(struct pieces *p)
{
    size_t most = 0;
    for (size_t i = 0; i < p->n; i++)
        if (p->tensors[i].rows != NULL && row_bytes(&p->tensors[i]) > most)
            most = row_bytes(&p->tensors[i]);
    p->made = most > 0 ? malloc(most > PIECE_BYTES ? most : PIECE_BYTES) : NULL;
    return most == 0 || p->made != NULL ? 0 : ERR_MEMORY;
}

static void checksum_pieces(struct pieces p, char out[SAFETENSORS_CHECKSUM_DIGITS + 1])
{
    XXH64_state_t *state = XXH64_createState();
    struct file_part part;
    ASSERT(state != NULL);
    XXH64_reset(state, 0);
    while (next_piece(&p, &part))
        if (part.size > 0)
            XXH64_update(state, part.data, part.size);
    checksum_digits(state, out);
    XXH64_freeState(state);
}

static int write_parts(const char *path, struct buf *header, const struct tensor_view *tensors, size_t n,
                       struct error *e)
{
    struct pieces pieces = {.header = header, .tensors = tensors, .n = n};
    if (reserve(&pieces) != 0)
        return error_set(e, ERR_MEMORY, "no memory to write %s", path);
    char digits[SAFETENSORS_CHECKSUM_DIGITS + 1];
    checksum_pieces(pieces, digits);
    uint8_t *json = header->data + SAFETENSORS_PREFIX;
    ASSERT(memcmp(json, checksum_lead, sizeof checksum_lead - 1) == 0);
    memcpy(json + sizeof checksum_lead - 1, digits, SAFETENSORS_CHECKSUM_DIGITS);
    int rc = file_write_atomic_from(path, next_piece, &pieces, e);
    free(pieces.made);
    return rc;
}

int safetensors_write(const char *path, const struct tensor_view *tensors, size_t n, const struct metadata_entry *meta,
                      size_t n_meta, struct error *e)
{
    struct buf *header = NULL;
    int rc = build_header(tensors, n, meta, n_meta, &header, e);
    if (rc == 0)
        rc = write_parts(path, header, tensors, n, e);
    buf_unref(&header);
    return rc;
}
