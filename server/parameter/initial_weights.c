/* A walk over the manifest's entries, and one over the file for what was left. */
#include "server/parameter/initial_weights.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "common/files.h"
#include "common/log.h"
#include "common/safetensors.h"
#include "common/vecmath.h"
#include "proto/checkpoint_path.h"
#include "proto/provenance.h"
#include "server/parameter/name_map.h"

enum { MAP_BYTES_MAX = 1 << 20, SHAPE_TEXT_MAX = 112 };

struct initial_weights {
    char path[RUN_PATH_MAX];
    struct safetensors file;
    struct name_map map;
    bool ours; /* a checkpoint: names have the prefixes teacher. and buffer. */
    uint64_t fingerprint;
};

static int read_map(const struct run_config *c, struct name_map *out, struct error *e)
{
    struct buf *text;
    struct error why = {0};
    if (c->encoder.init_map[0] == '\0')
        return 0;
    int rc = file_read(c->encoder.init_map, MAP_BYTES_MAX, &text, &why);
    if (rc == 0) {
        rc = name_map_parse((const char *)text->data, text->size, out, &why);
        buf_unref(&text);
    }
    return rc == 0 ? 0 : error_set(e, ERR_CONFIG, "encoder.init_map = %.150s: %.300s", c->encoder.init_map, why.text);
}

static int read_file(const struct run_config *c, struct initial_weights *w, struct error *e)
{
    struct error why = {0};
    int rc = checkpoint_path_find(c->encoder.init, ENCODER_FILE, w->path, &why);
    if (rc == 0)
        rc = safetensors_read(w->path, &w->file, &why);
    if (rc != 0)
        return error_set(e, ERR_CONFIG, "encoder.init = %.150s: %.300s", c->encoder.init, why.text);
    const char *kind = safetensors_meta(&w->file, "kind");
    w->ours = kind != NULL && strcmp(kind, "encoder") == 0;
    w->fingerprint = fingerprint_of(XXH64(w->file.file->data, w->file.file->size, 0));
    return 0;
}

int initial_weights_open(const struct run_config *c, struct initial_weights **out, struct error *e)
{
    *out = NULL;
    if (c->encoder.init[0] == '\0')
        return 0;
    struct initial_weights *w = calloc(1, sizeof *w);
    if (w == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for encoder.init");
    int rc = read_map(c, &w->map, e);
    if (rc == 0)
        rc = read_file(c, w, e);
    if (rc != 0)
        initial_weights_free(&w);
    *out = w;
    return rc;
}

void initial_weights_free(struct initial_weights **w)
{
    if (*w == NULL)
        return;
    safetensors_fini(&(*w)->file);
    name_map_fini(&(*w)->map);
    free(*w);
    *w = NULL;
}

uint64_t initial_weights_fingerprint(const struct initial_weights *w)
{
    return w->fingerprint;
}

/* ---- one tensor ---- */

static const struct tensor_view *find(const struct safetensors *file, const char *name)
{
    for (size_t i = 0; i < file->tensor_count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

static bool same_shape(const struct tensor_view *t, const struct manifest_entry *entry)
{
    return t->dtype == DTYPE_F32 && t->rank == entry->rank &&
           memcmp(t->shape, entry->shape, t->rank * sizeof t->shape[0]) == 0;
}

static const char *shape_text(enum dtype type, uint32_t rank, const uint64_t *shape, char out[SHAPE_TEXT_MAX])
{
    int used = snprintf(out, SHAPE_TEXT_MAX, "%s[", dtype_name(type));
    for (uint32_t d = 0; d < rank; d++)
        used += snprintf(out + used, SHAPE_TEXT_MAX - (size_t)used, "%s%" PRIu64, d ? "," : "", shape[d]);
    snprintf(out + used, SHAPE_TEXT_MAX - (size_t)used, "]");
    return out;
}

static void log_shape(const struct manifest_entry *entry, const struct tensor_view *t)
{
    char have[SHAPE_TEXT_MAX], want[SHAPE_TEXT_MAX];
    log_info("event=init_tensor name=%s state=other_shape from=%s shape=%s expected=%s", entry->name, t->name,
             shape_text(t->dtype, t->rank, t->shape, have), shape_text(DTYPE_F32, entry->rank, entry->shape, want));
}

/* One walk over the entries of a kind. */
struct kind {
    const struct initial_weights *weights;
    const char *prefix; /* in a checkpoint of ours */
    float *to;          /* flat vector of the kind */
    bool *used;         /* (tensor_count) tensors of the file */
    bool trained;       /* parameters; running statistics are not, frozen or not */
    struct initial_counts *counts;
};

/* Looked for under its prefix in a checkpoint, unless the map has a name for it. NULL: not there. */
static const struct tensor_view *source_of(const struct kind *k, const char *name, bool mapped)
{
    char prefixed[TENSOR_NAME_MAX + 16];
    snprintf(prefixed, sizeof prefixed, "%s.%s", k->prefix, name);
    const struct tensor_view *t = k->weights->ours && !mapped ? find(&k->weights->file, prefixed) : NULL;
    return t ? t : find(&k->weights->file, name);
}

static bool is_of_head(const struct manifest_entry *entry)
{
    return strncmp(entry->name, "head.", 5) == 0 || entry->unit_rows;
}

static int take(const struct kind *k, const struct manifest_entry *entry, struct error *e)
{
    char name[TENSOR_NAME_MAX];
    bool mapped;
    if (!name_map_find(&k->weights->map, entry->name, name, &mapped)) {
        k->counts->skipped++;
        log_info("event=init_tensor name=%s state=skipped", entry->name);
        return 0;
    }
    const struct tensor_view *t = source_of(k, name, mapped);
    if (t == NULL) {
        k->counts->absent++;
        log_info("event=init_tensor name=%s state=absent", entry->name);
        return 0;
    }
    k->used[t - k->weights->file.tensors] = true;
    if (!same_shape(t, entry)) {
        k->counts->other_shape++;
        log_shape(entry, t);
        return 0;
    }
    if (!vec_all_finite(t->data, entry->count))
        return error_set(e, ERR_CONFIG, "encoder.init: %.150s: %s holds a value that is not finite", k->weights->path,
                         t->name);
    memcpy(k->to + entry->offset, t->data, t->size);
    k->counts->taken++;
    k->counts->backbone += !is_of_head(entry);
    log_info("event=init_tensor name=%s state=taken from=%s", entry->name, t->name);
    return 0;
}

static int take_all(const struct kind *k, const struct manifest_entry *entries, size_t n, struct error *e)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        size_t before = k->counts->taken;
        rc = take(k, &entries[i], e);
        if (rc != 0 || !k->trained || k->counts->taken > before || entries[i].lr_scale != 0 || entries[i].unit_rows)
            continue;
        k->counts->frozen++;
        log_warn("event=init_frozen name=%s hint=\"encoder.freeze keeps it at its random value for good\"",
                 entries[i].name);
    }
    return rc;
}

/* Of a checkpoint only what could have been taken: it also has the student and the optimiser's moments. */
static void note_unused(const struct initial_weights *w, const bool *used, struct initial_counts *counts)
{
    for (size_t i = 0; i < w->file.tensor_count; i++) {
        const char *name = w->file.tensors[i].name;
        if (used[i] || (w->ours && strncmp(name, "teacher.", 8) != 0 && strncmp(name, "buffer.", 7) != 0))
            continue;
        counts->unused++;
        log_info("event=init_tensor from=%s state=unused", name);
    }
}

static int apply(const struct initial_weights *w, const struct manifest *m, float *params, float *buffers, bool *used,
                 struct initial_counts *counts, struct error *e)
{
    const struct kind parameters = {w, "teacher", params, used, true, counts},
                      running = {w, "buffer", buffers, used, false, counts};
    int rc = take_all(&parameters, m->parameters, m->parameter_count, e);
    if (rc == 0)
        rc = take_all(&running, m->buffers, m->buffer_count, e);
    if (rc != 0)
        return rc;
    note_unused(w, used, counts);
    log_info(
        "event=init path=\"%s\" fingerprint=%014" PRIx64 " taken=%zu absent=%zu other_shape=%zu skipped=%zu unused=%zu",
        w->path, w->fingerprint, counts->taken, counts->absent, counts->other_shape, counts->skipped, counts->unused);
    if (counts->taken > 0 && counts->backbone == 0)
        log_warn("event=init_head_only path=\"%s\" hint=\"nothing of the backbone fits, it begins at random: use the "
                 "encoder.* of its run, or encoder.init_map\"",
                 w->path);
    if (counts->taken > 0)
        return 0;
    return error_set(e, ERR_CONFIG,
                     "encoder.init: no tensor of %.200s fits this encoder (%zu are not there, %zu have another shape; "
                     "event=init_tensor has each): use the encoder.* of its run, or encoder.init_map",
                     w->path, counts->absent, counts->other_shape);
}

int initial_weights_apply(const struct initial_weights *w, const struct manifest *m, float *params, float *buffers,
                          struct initial_counts *counts, struct error *e)
{
    bool *used = calloc(w->file.tensor_count + 1, sizeof *used);
    *counts = (struct initial_counts){0};
    if (used == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for encoder.init");
    int rc = apply(w, m, params, buffers, used, counts, e);
    free(used);
    return rc;
}
