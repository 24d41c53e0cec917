/* Reader of safetensors files (safetensors_write.c has the layout). A file is foreign bytes: every length, offset,
 * shape and string is checked before it is used, and views are handed out only when all of the file makes sense. */
#include "common/safetensors.h"

#include <endian.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "common/safetensors_internal.h"

static const size_t FILE_BYTES_MAX = (size_t)64 << 30; /* far beyond any encoder; bounds one allocation */

struct header {
    const char *json;
    size_t length;
    const uint8_t *data; /* the data section */
    size_t data_size;
};

static int find_header(const struct buf *file, struct header *h, struct error *e)
{
    uint64_t length;
    if (file->size < SAFETENSORS_PREFIX)
        return error_set(e, ERR_FORMAT, "%zu bytes are too few for a safetensors file", file->size);
    memcpy(&length, file->data, sizeof length);
    length = le64toh(length);
    if (length > SAFETENSORS_HEADER_MAX || length > file->size - SAFETENSORS_PREFIX)
        return error_set(e, ERR_FORMAT,
                         "no safetensors file: its header would have %llu bytes, the file has %zu (the limit is %d)",
                         (unsigned long long)length, file->size, SAFETENSORS_HEADER_MAX);
    h->json = (const char *)file->data + SAFETENSORS_PREFIX;
    h->length = (size_t)length;
    h->data = file->data + SAFETENSORS_PREFIX + length;
    h->data_size = file->size - SAFETENSORS_PREFIX - h->length;
    return 0;
}

/* Copies text into a field of `size` bytes; false when it does not fit. */
static bool copy_text(char *out, size_t size, const char *text)
{
    size_t length = strlen(text);
    if (length >= size)
        return false;
    memcpy(out, text, length + 1);
    return true;
}

static int read_metadata(json_t *object, struct safetensors *s, struct error *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return error_set(e, ERR_FORMAT, "__metadata__ is not an object");
    s->metadata = calloc(json_object_size(object) + 1, sizeof *s->metadata);
    if (s->metadata == NULL)
        return error_set(e, ERR_MEMORY, "no memory for metadata");
    json_object_foreach(object, key, value)
    {
        struct metadata_entry *entry = &s->metadata[s->metadata_count];
        const char *text = json_string_value(value);
        if (text == NULL || !copy_text(entry->key, sizeof entry->key, key) ||
            !copy_text(entry->value, sizeof entry->value, text))
            return error_set(e, ERR_FORMAT, "metadata '%.60s' is too long or not a string", key);
        s->metadata_count++;
    }
    return 0;
}

/* A non-negative integer. */
static bool read_u64(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static bool read_shape(const json_t *array, struct tensor_view *t)
{
    size_t rank = json_array_size(array); /* 0 when it is not an array */
    if (!json_is_array(array) || rank > TENSOR_RANK_MAX)
        return false;
    t->rank = (uint32_t)rank;
    for (size_t i = 0; i < rank; i++)
        if (!read_u64(json_array_get(array, i), &t->shape[i]))
            return false;
    return true;
}

static int read_tensor(const char *name, const json_t *entry, const struct header *h, struct tensor_view *t,
                       struct error *e)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    uint64_t begin, end;
    size_t size;
    if (name[0] == '\0' || !copy_text(t->name, sizeof t->name, name))
        return error_set(e, ERR_FORMAT, "tensor '%.80s': its name is empty or too long", name);
    if (dtype == NULL || dtype_parse(dtype, &t->dtype) != 0)
        return error_set(e, ERR_FORMAT, "tensor '%s': dtype '%.20s' is not supported", name, dtype ? dtype : "");
    if (!read_shape(json_object_get(entry, "shape"), t) ||
        safetensors_tensor_size(t->dtype, t->rank, t->shape, &size) != 0)
        return error_set(e, ERR_FORMAT, "tensor '%s': bad or too large a shape", name);
    if (json_array_size(offsets) != 2 || !read_u64(json_array_get(offsets, 0), &begin) ||
        !read_u64(json_array_get(offsets, 1), &end) || begin > end || end > h->data_size)
        return error_set(e, ERR_FORMAT, "tensor '%s': data_offsets lie outside %zu bytes of data", name, h->data_size);
    if (end - begin != size)
        return error_set(e, ERR_FORMAT, "tensor '%s': %llu bytes, but its shape takes %zu", name,
                         (unsigned long long)(end - begin), size);
    t->data = h->data + begin;
    t->size = size;
    if ((uintptr_t)t->data % dtype_size(t->dtype) != 0)
        return error_set(e, ERR_FORMAT, "tensor '%s': misaligned", name);
    return 0;
}

/* By offset; at equal offsets (empty tensors) those without bytes first, then by name. */
static int compare_places(const void *a, const void *b)
{
    const struct tensor_view *s = a, *t = b;
    if (s->data != t->data)
        return s->data < t->data ? -1 : 1;
    if (s->size != t->size)
        return s->size < t->size ? -1 : 1;
    return strcmp(s->name, t->name);
}

/* The tensors must tile the data section: no gap, no overlap, nothing after them. */
static int check_contiguous(const struct safetensors *s, const struct header *h, struct error *e)
{
    const uint8_t *next = h->data;
    for (size_t i = 0; i < s->tensor_count; i++) {
        if (s->tensors[i].data != next)
            return error_set(e, ERR_FORMAT, "tensor '%s': a gap or an overlap before it", s->tensors[i].name);
        next += s->tensors[i].size;
    }
    if (next != h->data + h->data_size)
        return error_set(e, ERR_FORMAT, "%zu bytes belong to no tensor", (size_t)(h->data + h->data_size - next));
    return 0;
}

static int read_entries(json_t *root, const struct header *h, struct safetensors *s, struct error *e)
{
    const char *name;
    json_t *entry;
    s->tensors = calloc(json_object_size(root) + 1, sizeof *s->tensors);
    if (s->tensors == NULL)
        return error_set(e, ERR_MEMORY, "no memory for %zu tensors", json_object_size(root));
    json_object_foreach(root, name, entry)
    {
        int rc;
        if (strcmp(name, "__metadata__") == 0)
            rc = read_metadata(entry, s, e);
        else
            rc = read_tensor(name, entry, h, &s->tensors[s->tensor_count++], e);
        if (rc != 0)
            return rc;
    }
    qsort(s->tensors, s->tensor_count, sizeof *s->tensors, compare_places);
    return check_contiguous(s, h, e);
}

/* Files of other writers have no checksum: then there is nothing to check. */
static int check_checksum(const struct safetensors *s, const struct header *h, struct error *e)
{
    const char *given = safetensors_meta(s, "checksum");
    if (given == NULL)
        return 0;
    const char *digits = memmem(h->json, h->length, given, strlen(given));
    if (strlen(given) != SAFETENSORS_CHECKSUM_DIGITS || digits == NULL)
        return error_set(e, ERR_FORMAT, "checksum '%.40s' is not one of ours", given);
    const char *after = digits + SAFETENSORS_CHECKSUM_DIGITS;
    const struct file_part parts[] = {{s->file->data, (size_t)(digits - (const char *)s->file->data)},
                                      {"0000000000000000", SAFETENSORS_CHECKSUM_DIGITS},
                                      {after, (size_t)(h->json + h->length - after)},
                                      {h->data, h->data_size}};
    char computed[SAFETENSORS_CHECKSUM_DIGITS + 1];
    safetensors_checksum(parts, sizeof parts / sizeof parts[0], computed);
    if (strcmp(computed, given) != 0)
        return error_set(e, ERR_FORMAT, "checksum is %s, %s was written: the file is damaged", computed, given);
    return 0;
}

static int parse_file(struct safetensors *s, struct error *e)
{
    struct header h = {0};
    json_error_t json_error;
    int rc = find_header(s->file, &h, e);
    if (rc != 0)
        return rc;
    json_t *root = json_loadb(h.json, h.length, JSON_REJECT_DUPLICATES, &json_error);
    if (!json_is_object(root)) {
        json_decref(root);
        return error_set(e, ERR_FORMAT, "header is not a JSON object: %s", root ? "another type" : json_error.text);
    }
    rc = read_entries(root, &h, s, e);
    json_decref(root);
    return rc == 0 ? check_checksum(s, &h, e) : rc;
}

int safetensors_read(const char *path, struct safetensors *out, struct error *e)
{
    *out = (struct safetensors){0};
    int rc = file_read(path, FILE_BYTES_MAX, &out->file, e);
    if (rc != 0)
        return rc;
    struct error why = {0};
    rc = parse_file(out, &why);
    if (rc != 0) {
        safetensors_fini(out);
        return error_set(e, rc, "%s: %s", path, why.text);
    }
    return 0;
}

void safetensors_fini(struct safetensors *s)
{
    buf_unref(&s->file);
    free(s->tensors);
    free(s->metadata);
    *s = (struct safetensors){0};
}

const struct tensor_view *safetensors_find(const struct safetensors *s, const char *name, enum dtype dtype,
                                           uint32_t rank, const uint64_t *shape, struct error *e)
{
    for (size_t i = 0; i < s->tensor_count; i++) {
        const struct tensor_view *t = &s->tensors[i];
        if (strcmp(t->name, name) != 0)
            continue;
        if (t->dtype == dtype && t->rank == rank && (rank == 0 || memcmp(t->shape, shape, rank * sizeof *shape) == 0))
            return t;
        error_set(e, ERR_FORMAT, "tensor '%s' has another dtype or shape than wanted (%s, rank %u)", name,
                  dtype_name(dtype), rank);
        return NULL;
    }
    error_set(e, ERR_NOT_FOUND, "no tensor '%s'", name);
    return NULL;
}

const struct tensor_view *safetensors_bytes(const struct safetensors *s, const char *name)
{
    for (size_t i = 0; i < s->tensor_count; i++) {
        const struct tensor_view *t = &s->tensors[i];
        if (strcmp(t->name, name) == 0 && t->dtype == DTYPE_U8 && t->rank == 1)
            return t;
    }
    return NULL;
}

const char *safetensors_meta(const struct safetensors *s, const char *key)
{
    for (size_t i = 0; i < s->metadata_count; i++)
        if (strcmp(s->metadata[i].key, key) == 0)
            return s->metadata[i].value;
    return NULL;
}
