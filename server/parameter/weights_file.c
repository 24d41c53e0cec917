/* Writing lists views into the flat vectors, copying nothing; reading fills fresh flat vectors. Both walk the same
 * table of kinds. */
#include "server/parameter/weights_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/safetensors.h"
#include "common/vecmath.h"
#include "common/version.h"

#define FORMAT "decant-encoder-1"

enum { PREFIX_MAX = 8, KINDS_MAX = 3 + MOMENTS_MAX, METADATA = 8 };

/* One flat vector and the entries that it consists of. */
struct kind {
    const char *prefix;
    const struct manifest_entry *entries;
    size_t count, floats;
    struct buf **vector;
};

void encoder_state_fini(struct encoder_state *s)
{
    weight_vectors_fini(&s->vectors);
    manifest_fini(&s->manifest);
}

bool weights_file_names_fit(const struct manifest *m)
{
    bool fit = true;
    for (size_t i = 0; i < m->parameter_count; i++)
        fit = fit && strlen(m->parameters[i].name) + PREFIX_MAX < TENSOR_NAME_MAX;
    for (size_t i = 0; i < m->buffer_count; i++)
        fit = fit && strlen(m->buffers[i].name) + PREFIX_MAX < TENSOR_NAME_MAX;
    return fit;
}

/* The kinds in file order; returns how many. */
static size_t list_kinds(const struct manifest *m, enum optimiser_name optimiser, struct weight_vectors *v,
                         struct kind kinds[KINDS_MAX])
{
    const struct kind parameters = {"", m->parameters, m->parameter_count, m->parameter_floats, NULL};
    size_t n = 0;
    kinds[n] = parameters;
    kinds[n].prefix = "student";
    kinds[n++].vector = &v->student;
    kinds[n] = parameters;
    kinds[n].prefix = "teacher";
    kinds[n++].vector = &v->teacher;
    kinds[n++] = (struct kind){"buffer", m->buffers, m->buffer_count, m->buffer_floats, &v->buffers};
    for (unsigned i = 0; i < optimiser_moments(optimiser); i++) {
        kinds[n] = parameters;
        kinds[n].prefix = optimiser_moment_name(optimiser, i);
        kinds[n++].vector = &v->moments[i];
    }
    return n;
}

static void tensor_name(char out[TENSOR_NAME_MAX], const struct kind *k, const struct manifest_entry *entry)
{
    int length = snprintf(out, TENSOR_NAME_MAX, "%s.%s", k->prefix, entry->name);
    ASSERT(length > 0 && length < TENSOR_NAME_MAX);
}

/* ---- writing ---- */

static struct tensor_view bytes_view(const char *name, const void *data, size_t size)
{
    struct tensor_view t = {.dtype = DTYPE_U8, .rank = 1, .shape = {size}, .data = data, .size = size};
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

static struct tensor_view entry_view(const struct kind *k, const struct manifest_entry *entry)
{
    const float *vector = (const float *)(const void *)(*k->vector)->data;
    struct tensor_view t = {
        .dtype = DTYPE_F32, .rank = entry->rank, .data = vector + entry->offset, .size = entry->count * sizeof(float)};
    memcpy(t.shape, entry->shape, sizeof t.shape);
    tensor_name(t.name, k, entry);
    return t;
}

/* Returns how many entries. */
static size_t write_metadata(struct metadata_entry meta[METADATA + PROVENANCE_ENTRIES_MAX], const struct run_config *c,
                             const struct encoder_state *s)
{
    const char *const keys[METADATA] = {"format",      "kind",   "run",       "step",
                                        "total_steps", "config", "optimiser", "version"};
    for (size_t i = 0; i < METADATA; i++)
        snprintf(meta[i].key, sizeof meta[i].key, "%s", keys[i]);
    snprintf(meta[0].value, sizeof meta[0].value, FORMAT);
    snprintf(meta[1].value, sizeof meta[1].value, "encoder");
    snprintf(meta[2].value, sizeof meta[2].value, "%s", c->run.name);
    snprintf(meta[3].value, sizeof meta[3].value, "%" PRIu64, s->step);
    snprintf(meta[4].value, sizeof meta[4].value, "%" PRIu64, s->total_steps);
    snprintf(meta[5].value, sizeof meta[5].value, "%016" PRIx64, run_config_hash(c));
    snprintf(meta[6].value, sizeof meta[6].value, "%s", word_of_optimiser(c->optimiser.name));
    snprintf(meta[7].value, sizeof meta[7].value, DECANT_VERSION);
    return METADATA + provenance_to_metadata(&s->provenance, meta + METADATA);
}

static int write_tensors(const char *path, const struct run_config *c, const struct encoder_state *s,
                         const struct tensor_view texts[2], struct error *e)
{
    struct weight_vectors vectors = s->vectors;
    struct kind kinds[KINDS_MAX];
    size_t kind_count = list_kinds(&s->manifest, c->optimiser.name, &vectors, kinds), room = 2, n = 0;
    for (size_t k = 0; k < kind_count; k++)
        room += kinds[k].count;
    struct tensor_view *tensors = calloc(room, sizeof *tensors);
    if (tensors == NULL)
        return error_set(e, ERR_MEMORY, "%s: out of memory for %zu tensors", path, room);
    for (size_t k = 0; k < kind_count; k++)
        for (size_t i = 0; i < kinds[k].count; i++)
            tensors[n++] = entry_view(&kinds[k], &kinds[k].entries[i]);
    tensors[n++] = texts[0];
    tensors[n++] = texts[1];
    struct metadata_entry meta[METADATA + PROVENANCE_ENTRIES_MAX] = {0};
    int rc = safetensors_write(path, tensors, n, meta, write_metadata(meta, c, s), e);
    free(tensors);
    return rc;
}

int weights_file_write(const char *path, const struct run_config *c, const struct encoder_state *s, struct error *e)
{
    size_t ini_size = 0;
    char *ini = run_config_record(c, &ini_size);
    struct buf *json = NULL;
    int rc = ini ? manifest_to_json(&s->manifest, &json) : ERR_MEMORY;
    if (rc == 0) {
        struct tensor_view texts[2] = {bytes_view("manifest", json->data, json->size),
                                       bytes_view("config_ini", ini, ini_size)};
        rc = write_tensors(path, c, s, texts, e);
    } else {
        error_set(e, rc, "%s: out of memory", path);
    }
    buf_unref(&json);
    free(ini);
    return rc;
}

/* ---- reading ---- */

static int read_number(const struct safetensors *file, const char *key, int base, uint64_t *out)
{
    const char *text = safetensors_meta(file, key);
    char *end;
    if (text == NULL || *text < '0')
        return ERR_FORMAT;
    *out = strtoull(text, &end, base);
    return *end == '\0' ? 0 : ERR_FORMAT;
}

static int read_metadata(const char *path, const struct safetensors *file, const struct run_config *c,
                         struct encoder_state *s, struct error *e)
{
    uint64_t config;
    const char *format = safetensors_meta(file, "format");
    if (format == NULL || strcmp(format, FORMAT) != 0)
        return error_set(e, ERR_FORMAT, "%s: format is '%s', not " FORMAT, path, format ? format : "");
    if (read_number(file, "step", 10, &s->step) != 0 || read_number(file, "total_steps", 10, &s->total_steps) != 0 ||
        read_number(file, "config", 16, &config) != 0)
        return error_set(e, ERR_FORMAT, "%s: step, total_steps or config in the metadata is not a number", path);
    struct error why = {0};
    if (provenance_from_metadata(file, &s->provenance, &why) != 0)
        return error_set(e, ERR_FORMAT, "%s: %s", path, why.text);
    if (config == run_config_hash(c))
        return 0;
    const struct tensor_view *record = safetensors_bytes(file, "config_ini");
    return run_config_explain_difference(record ? record->data : NULL, record ? record->size : 0, c, path, e);
}

static int read_manifest(const char *path, const struct safetensors *file, struct manifest *out, struct error *e)
{
    const struct tensor_view *json = safetensors_bytes(file, "manifest");
    if (json == NULL)
        return error_set(e, ERR_FORMAT, "%s: has no U8 tensor \"manifest\"", path);
    int rc = manifest_from_json(json->data, json->size, out, e);
    if (rc == 0 && (out->parameter_floats == 0 || !weights_file_names_fit(out)))
        rc = error_set(e, ERR_FORMAT, "%s: the manifest has no parameters, or names that are too long", path);
    return rc;
}

/* Every entry of one kind into a fresh flat vector; none when the kind is empty. */
static int read_kind(const struct safetensors *file, const struct kind *k, struct error *e)
{
    if (k->floats == 0)
        return 0;
    struct buf *vector = buf_new(k->floats * sizeof(float));
    *k->vector = vector;
    if (vector == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for %zu floats", k->floats);
    float *to = (float *)(void *)vector->data;
    for (size_t i = 0; i < k->count; i++) {
        const struct manifest_entry *entry = &k->entries[i];
        char name[TENSOR_NAME_MAX];
        tensor_name(name, k, entry);
        const struct tensor_view *t = safetensors_find(file, name, DTYPE_F32, entry->rank, entry->shape, e);
        if (t == NULL)
            return ERR_FORMAT;
        memcpy(to + entry->offset, t->data, t->size);
        if (!vec_all_finite(to + entry->offset, entry->count))
            return error_set(e, ERR_FORMAT, "%s holds a value that is not finite", name);
    }
    return 0;
}

static int read_state(const char *path, const struct safetensors *file, const struct run_config *c,
                      struct encoder_state *out, struct error *e)
{
    int rc = read_metadata(path, file, c, out, e);
    if (rc == 0)
        rc = read_manifest(path, file, &out->manifest, e);
    if (rc != 0)
        return rc;
    struct kind kinds[KINDS_MAX];
    size_t n = list_kinds(&out->manifest, c->optimiser.name, &out->vectors, kinds);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = read_kind(file, &kinds[i], e);
    return rc;
}

int weights_file_read(const char *path, const struct run_config *c, struct encoder_state *out, struct error *e)
{
    struct safetensors file;
    memset(out, 0, sizeof *out);
    manifest_init(&out->manifest);
    int rc = safetensors_read(path, &file, e);
    if (rc != 0)
        return rc;
    rc = read_state(path, &file, c, out, e);
    safetensors_fini(&file);
    if (rc != 0)
        encoder_state_fini(out);
    return rc;
}
