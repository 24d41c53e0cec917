/* The parameter manifest and its JSON. Writing is canonical (fixed key order, no spaces, numbers with 17 digits), so
 * that equal manifests have equal bytes. Reading takes nothing on trust: a worker sends it. A key that this end does
 * not know is refused, not skipped: a server that ignored a flag of the optimiser would train another model. */
#include "proto/manifest.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MANIFEST_JSON_MAX = 1 << 20 }; /* bytes; a full manifest of 1024 entries has about 200 KiB */
/* 8 GiB of float32: beyond it the frame would not fit a ZeroMQ message of the size limits we set. */
#define MANIFEST_FLOATS_MAX (UINT64_C(1) << 31)

void manifest_init(struct manifest *m)
{
    *m = (struct manifest){0};
}

void manifest_fini(struct manifest *m)
{
    free(m->parameters);
    free(m->buffers);
    manifest_init(m);
}

/* Parts of letters, digits, '_' and '-' with single dots between them. Names become keys of safetensors files and files
 * in .npz archives, so nothing that means something in a path, a shell or a log line is let in. */
static bool name_valid(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t length = strnlen(name, TENSOR_NAME_MAX), part = 0;
    if (length == TENSOR_NAME_MAX)
        return false;
    for (size_t i = 0; i < length; i++) {
        bool dot = name[i] == '.';
        if (dot ? part == 0 : strchr(letters, name[i]) == NULL)
            return false;
        part = dot ? 0 : part + 1;
    }
    return part > 0 && name[0] != '-';
}

static bool count_floats(const struct manifest_entry *entry, size_t *count)
{
    *count = 1;
    if (entry->rank > TENSOR_RANK_MAX)
        return false;
    for (uint32_t i = 0; i < entry->rank; i++) {
        if (entry->shape[i] == 0 || entry->shape[i] > MANIFEST_FLOATS_MAX)
            return false;
        *count *= entry->shape[i]; /* both factors <= 2^31 */
        if (*count > MANIFEST_FLOATS_MAX)
            return false;
    }
    return true;
}

static bool name_taken(const struct manifest_entry *entries, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(entries[i].name, name) == 0)
            return true;
    return false;
}

/* Appends to one of the two lists. */
static int add(struct manifest_entry **entries, size_t *n, size_t *floats, const struct manifest_entry *entry)
{
    size_t count;
    if (*n == MANIFEST_ENTRIES_MAX || !name_valid(entry->name) || !count_floats(entry, &count) ||
        *floats + count > MANIFEST_FLOATS_MAX || name_taken(*entries, *n, entry->name))
        return ERR_RANGE;
    struct manifest_entry *grown = realloc(*entries, (*n + 1) * sizeof **entries);
    if (!grown)
        return ERR_MEMORY;
    *entries = grown;
    grown[*n] = *entry;
    grown[*n].offset = *floats;
    grown[*n].count = count;
    *n += 1;
    *floats += count;
    return 0;
}

int manifest_add_parameter(struct manifest *m, const struct manifest_entry *entry)
{
    return add(&m->parameters, &m->parameter_count, &m->parameter_floats, entry);
}

int manifest_add_buffer(struct manifest *m, const struct manifest_entry *entry)
{
    return add(&m->buffers, &m->buffer_count, &m->buffer_floats, entry);
}

int manifest_copy(struct manifest *out, const struct manifest *m)
{
    int rc = 0;
    manifest_init(out);
    for (size_t i = 0; rc == 0 && i < m->parameter_count; i++)
        rc = manifest_add_parameter(out, &m->parameters[i]);
    for (size_t i = 0; rc == 0 && i < m->buffer_count; i++)
        rc = manifest_add_buffer(out, &m->buffers[i]);
    if (rc)
        manifest_fini(out);
    return rc;
}

static bool entry_equal(const struct manifest_entry *a, const struct manifest_entry *b)
{
    if (strcmp(a->name, b->name) != 0 || a->rank != b->rank)
        return false;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return a->decay == b->decay && a->clip == b->clip && a->unit_rows == b->unit_rows && a->lr_scale == b->lr_scale &&
           a->momentum == b->momentum;
}

bool manifest_entry_is_frozen(const struct manifest_entry *e)
{
    return e->lr_scale == 0 && !e->unit_rows;
}

bool manifest_equal(const struct manifest *a, const struct manifest *b)
{
    if (a->parameter_count != b->parameter_count || a->buffer_count != b->buffer_count)
        return false;
    for (size_t i = 0; i < a->parameter_count; i++)
        if (!entry_equal(&a->parameters[i], &b->parameters[i]))
            return false;
    for (size_t i = 0; i < a->buffer_count; i++)
        if (!entry_equal(&a->buffers[i], &b->buffers[i]))
            return false;
    return true;
}

/* ---- writing ---- */

static json_t *shape_to_json(const struct manifest_entry *entry)
{
    json_t *shape = json_array();
    for (uint32_t i = 0; shape && i < entry->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)entry->shape[i]));
    return shape;
}

static json_t *parameter_to_json(const struct manifest_entry *p)
{
    return json_pack("{s:s, s:o, s:b, s:b, s:b, s:f}", "name", p->name, "shape", shape_to_json(p), "decay", p->decay,
                     "clip", p->clip, "unit_rows", p->unit_rows, "lr_scale", p->lr_scale);
}

static json_t *buffer_to_json(const struct manifest_entry *b)
{
    return json_pack("{s:s, s:o, s:f}", "name", b->name, "shape", shape_to_json(b), "momentum", b->momentum);
}

static json_t *entries_to_json(const struct manifest_entry *entries, size_t n,
                               json_t *(*entry_to_json)(const struct manifest_entry *))
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, entry_to_json(&entries[i]))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

int manifest_to_json(const struct manifest *m, struct buf **out)
{
    json_t *root =
        json_pack("{s:o, s:o}", "parameters", entries_to_json(m->parameters, m->parameter_count, parameter_to_json),
                  "buffers", entries_to_json(m->buffers, m->buffer_count, buffer_to_json));
    char *text = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    *out = text ? buf_copy(text, strlen(text)) : NULL;
    free(text);
    json_decref(root);
    return *out ? 0 : ERR_MEMORY;
}

/* ---- reading ---- */

static int shape_from_json(const json_t *shape, struct manifest_entry *entry)
{
    if (json_array_size(shape) > TENSOR_RANK_MAX)
        return ERR_RANGE;
    entry->rank = (uint32_t)json_array_size(shape);
    for (uint32_t i = 0; i < entry->rank; i++) {
        const json_t *dimension = json_array_get(shape, i);
        if (!json_is_integer(dimension) || json_integer_value(dimension) < 1)
            return ERR_FORMAT;
        entry->shape[i] = (uint64_t)json_integer_value(dimension);
    }
    return 0;
}

static int name_from_json(const char *name, size_t length, struct manifest_entry *entry)
{
    if (length >= sizeof entry->name || strlen(name) != length)
        return ERR_RANGE;
    memcpy(entry->name, name, length + 1);
    return 0;
}

static int parameter_from_json(json_t *o, struct manifest *m)
{
    struct manifest_entry p = {0};
    const char *name;
    size_t length;
    json_t *shape;
    int decay, clip, unit_rows;
    if (json_unpack(o, "{s:s%, s:o, s:b, s:b, s:b, s:F !}", "name", &name, &length, "shape", &shape, "decay", &decay,
                    "clip", &clip, "unit_rows", &unit_rows, "lr_scale", &p.lr_scale))
        return ERR_FORMAT;
    p.decay = decay;
    p.clip = clip;
    p.unit_rows = unit_rows;
    int rc = p.lr_scale >= 0 && json_is_array(shape) ? name_from_json(name, length, &p) : ERR_FORMAT;
    rc = rc ? rc : shape_from_json(shape, &p);
    return rc ? rc : manifest_add_parameter(m, &p);
}

static int buffer_from_json(json_t *o, struct manifest *m)
{
    struct manifest_entry b = {0};
    const char *name;
    size_t length;
    json_t *shape;
    if (json_unpack(o, "{s:s%, s:o, s:F !}", "name", &name, &length, "shape", &shape, "momentum", &b.momentum))
        return ERR_FORMAT;
    int rc = b.momentum >= 0 && b.momentum <= 1 && json_is_array(shape) ? name_from_json(name, length, &b) : ERR_FORMAT;
    rc = rc ? rc : shape_from_json(shape, &b);
    return rc ? rc : manifest_add_buffer(m, &b);
}

static int entries_from_json(const json_t *list, const char *kind, int (*entry_from_json)(json_t *, struct manifest *),
                             struct manifest *m, struct error *e)
{
    if (!json_is_array(list))
        return error_set(e, ERR_FORMAT, "manifest: %s is not a list", kind);
    for (size_t i = 0; i < json_array_size(list); i++) {
        int rc = entry_from_json(json_array_get(list, i), m);
        if (rc)
            return error_set(e, rc == ERR_MEMORY ? rc : ERR_FORMAT, "manifest: entry %zu of %s is %s", i, kind,
                             rc == ERR_RANGE ? "a duplicate, over the limits, or its name is not of letters, digits, "
                                               "'_', '-' and single dots"
                                             : "malformed");
    }
    return 0;
}

static int lists_from_json(json_t *root, struct manifest *m, struct error *e)
{
    json_t *parameters, *buffers;
    if (json_unpack(root, "{s:o, s:o !}", "parameters", &parameters, "buffers", &buffers))
        return error_set(e, ERR_FORMAT, "manifest: keys other than parameters and buffers, or one is missing");
    int rc = entries_from_json(parameters, "parameters", parameter_from_json, m, e);
    return rc ? rc : entries_from_json(buffers, "buffers", buffer_from_json, m, e);
}

int manifest_from_json(const void *text, size_t size, struct manifest *out, struct error *e)
{
    manifest_init(out);
    if (size > MANIFEST_JSON_MAX)
        return error_set(e, ERR_FORMAT, "manifest: %zu bytes, limit %d", size, MANIFEST_JSON_MAX);
    json_error_t where;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_set(e, ERR_FORMAT, "manifest: byte %d: %s", where.position, where.text);
    int rc = lists_from_json(root, out, e);
    json_decref(root);
    if (rc)
        manifest_fini(out);
    return rc;
}
