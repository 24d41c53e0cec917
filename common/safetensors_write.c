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

void safetensors_checksum(const struct file_part *parts, size_t n, char out[SAFETENSORS_CHECKSUM_DIGITS + 1])
{
    XXH64_state_t *state = XXH64_createState();
    ASSERT(state != NULL);
    XXH64_reset(state, 0);
    for (size_t i = 0; i < n; i++)
        if (parts[i].size > 0)
            XXH64_update(state, parts[i].data, parts[i].size);
    snprintf(out, SAFETENSORS_CHECKSUM_DIGITS + 1, "%016" PRIx64, (uint64_t)XXH64_digest(state));
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

static int write_parts(const char *path, struct buf *header, const struct tensor_view *tensors, size_t n,
                       struct error *e)
{
    struct file_part *parts = calloc(n + 1, sizeof *parts);
    if (parts == NULL)
        return error_set(e, ERR_MEMORY, "no memory to write %s", path);
    parts[0] = (struct file_part){header->data, header->size};
    for (size_t i = 0; i < n; i++)
        parts[i + 1] = (struct file_part){tensors[i].data, tensors[i].size};
    char digits[SAFETENSORS_CHECKSUM_DIGITS + 1];
    safetensors_checksum(parts, n + 1, digits);
    uint8_t *json = header->data + SAFETENSORS_PREFIX;
    ASSERT(memcmp(json, checksum_lead, sizeof checksum_lead - 1) == 0);
    memcpy(json + sizeof checksum_lead - 1, digits, SAFETENSORS_CHECKSUM_DIGITS);
    int rc = file_write_atomic(path, parts, n + 1, e);
    free(parts);
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
