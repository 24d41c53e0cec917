/* Loads the files of both steps one pair at a time and compares them. */
#include "cli/step_compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/checkpoint.h"
#include "cli/step_file.h"
#include "common/files.h"
#include "proto/run_dir.h"

struct pair {
    struct safetensors file[2];
};

static int load_one(const char *directory, unsigned side, struct pair *p, struct file_comparison *out, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    if (path_format(path, sizeof path, "%s/%s", directory, out->name) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s/%s", directory, out->name);
    int rc = file_probe(path, &out->damage[side]);
    if (rc == ERR_NOT_FOUND)
        out->state[side] = FILE_ABSENT;
    else if (rc != 0 || safetensors_read(path, &p->file[side], &out->damage[side]) != 0)
        out->state[side] = FILE_DAMAGED;
    else
        out->state[side] = FILE_SOUND;
    return 0;
}

static int load_pair(const char *const directories[2], struct pair *p, struct file_comparison *out, struct error *e)
{
    int rc = load_one(directories[0], 0, p, out, e);
    return rc == 0 ? load_one(directories[1], 1, p, out, e) : rc;
}

static void pair_fini(struct pair *p)
{
    safetensors_fini(&p->file[0]);
    safetensors_fini(&p->file[1]);
}

/* ---- tensors ---- */

static const struct tensor_view *find(const struct safetensors *f, const char *name)
{
    for (size_t i = 0; i < f->tensor_count; i++)
        if (strcmp(f->tensors[i].name, name) == 0)
            return &f->tensors[i];
    return NULL;
}

static bool same_shape(const struct tensor_view *a, const struct tensor_view *b)
{
    return a->dtype == b->dtype && a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
}

static void shape_text(const struct tensor_view *t, char out[SHAPE_TEXT_MAX])
{
    int used = snprintf(out, SHAPE_TEXT_MAX, "%s [", dtype_name(t->dtype));
    for (uint32_t d = 0; d < t->rank; d++)
        used += snprintf(out + used, SHAPE_TEXT_MAX - (size_t)used, "%s%" PRIu64, d ? ", " : "", t->shape[d]);
    snprintf(out + used, SHAPE_TEXT_MAX - (size_t)used, "]");
}

static void note(struct file_comparison *out, enum tensor_parting parting, const char *name)
{
    if (out->differing++ > 0)
        return;
    out->parting = parting;
    snprintf(out->first, sizeof out->first, "%s", name);
}

static void compare_tensor(const struct tensor_view *a, const struct tensor_view *b, struct file_comparison *out)
{
    bool first = out->differing == 0;
    if (!b) {
        note(out, TENSOR_ONLY_IN_A, a->name);
        return;
    }
    if (!same_shape(a, b)) {
        note(out, TENSOR_SHAPES_DIFFER, a->name);
        if (first) {
            shape_text(a, out->shape[0]);
            shape_text(b, out->shape[1]);
        }
        return;
    }
    if (memcmp(a->data, b->data, a->size) == 0)
        return;
    note(out, TENSOR_VALUES_DIFFER, a->name);
    if (first) {
        tensor_compare(a, b, &out->values);
        out->rank = a->rank;
    }
}

/* The checksum covers the metadata itself, and the version says who wrote, not what was computed. */
static bool is_about_the_run(const char *key)
{
    return strcmp(key, "checksum") != 0 && strcmp(key, "version") != 0;
}

static void compare_metadata(const struct safetensors *a, const struct safetensors *b, struct file_comparison *out)
{
    for (size_t i = 0; i < a->metadata_count && !out->metadata[0]; i++) {
        const char *key = a->metadata[i].key, *other = safetensors_meta(b, key);
        if (is_about_the_run(key) && (!other || strcmp(other, a->metadata[i].value) != 0))
            snprintf(out->metadata, sizeof out->metadata, "%s", key);
    }
    for (size_t i = 0; i < b->metadata_count && !out->metadata[0]; i++)
        if (!safetensors_meta(a, b->metadata[i].key))
            snprintf(out->metadata, sizeof out->metadata, "%s", b->metadata[i].key);
}

/* The configuration's text is a record of the run, which is kept among the tensors; its keys are compared one by
 * one. */
#define RECORD "config_ini"

static void compare_tensors(const struct safetensors *a, const struct safetensors *b, struct file_comparison *out)
{
    for (size_t i = 0; i < a->tensor_count; i++)
        if (strcmp(a->tensors[i].name, RECORD) != 0)
            compare_tensor(&a->tensors[i], find(b, a->tensors[i].name), out);
    for (size_t i = 0; i < b->tensor_count; i++)
        if (!find(a, b->tensors[i].name))
            note(out, TENSOR_ONLY_IN_B, b->tensors[i].name);
}

static bool same_record(const struct safetensors *a, const struct safetensors *b)
{
    const struct tensor_view *left = find(a, RECORD), *right = find(b, RECORD);
    if (!left || !right)
        return !left && !right;
    return left->size == right->size && memcmp(left->data, right->data, left->size) == 0;
}

static void compare_files(const struct pair *p, struct file_comparison *out)
{
    const struct safetensors *a = &p->file[0], *b = &p->file[1];
    out->tensors = a->tensor_count;
    for (unsigned side = 0; side < 2; side++)
        if (provenance_from_metadata(&p->file[side], &out->provenance[side], NULL) != 0)
            out->provenance[side] = (struct provenance){0};
    out->identical = a->file->size == b->file->size && memcmp(a->file->data, b->file->data, a->file->size) == 0;
    if (out->identical)
        return;
    compare_tensors(a, b, out);
    compare_metadata(a, b, out);
    compare_metadata(b, a, out);
    if (!out->metadata[0] && !same_record(a, b))
        snprintf(out->metadata, sizeof out->metadata, RECORD);
    out->identical = out->differing == 0 && out->metadata[0] == '\0'; /* then only the writers' versions differ */
}

static bool both(const struct file_comparison *f, enum file_state state)
{
    return f->state[0] == state && f->state[1] == state;
}

/* ---- configurations ---- */

static void add_keys(const struct run_config configs[2], bool shaping, struct step_comparison *out)
{
    char value[2][1200];
    for (size_t i = 0; i < run_config_key_count && out->key_count < KEYS_DIFFERING_MAX; i++) {
        const struct config_key *key = &run_config_keys[i];
        if (run_config_shapes_result(key->name) != shaping)
            continue;
        for (unsigned side = 0; side < 2; side++)
            config_value(key, &configs[side], value[side], sizeof value[side]);
        if (strcmp(value[0], value[1]) == 0)
            continue;
        struct key_difference *k = &out->keys[out->key_count++];
        k->name = key->name;
        k->shapes_result = shaping;
        for (unsigned side = 0; side < 2; side++)
            snprintf(k->value[side], sizeof k->value[side], "%.*s", KEY_VALUE_MAX - 1, value[side]);
    }
}

/* Of two encoders that could be read. True when both runs are joint, and so without a mixture. */
static bool compare_configs(const struct pair *p, struct step_comparison *out)
{
    struct run_config configs[2];
    for (unsigned side = 0; side < 2; side++)
        if (step_file_config(&p->file[side], &configs[side], &out->configuration_error) != 0)
            return false;
    add_keys(configs, true, out);
    add_keys(configs, false, out);
    return configs[0].loss.prototypes == PROTOTYPES_JOINT && configs[1].loss.prototypes == PROTOTYPES_JOINT;
}

/* Of the sound ones; a file that does not say whose it is counts as damaged. */
static void read_identities(const struct pair *p, struct file_comparison *file, struct step_identity out[2])
{
    for (unsigned side = 0; side < 2; side++)
        if (file->state[side] == FILE_SOUND && step_identity_read(&p->file[side], &out[side], &file->damage[side]) != 0)
            file->state[side] = FILE_DAMAGED;
}

static int compare_encoders(struct step_comparison *out, struct step_identity identities[2], bool *joint,
                            struct error *e)
{
    struct pair p = {0};
    int rc = load_pair(out->directory, &p, &out->files[0], e);
    if (rc == 0)
        read_identities(&p, &out->files[0], identities);
    for (unsigned side = 0; side < 2; side++)
        out->step[side] = identities[side].step;
    if (rc == 0 && both(&out->files[0], FILE_SOUND)) {
        compare_files(&p, &out->files[0]);
        *joint = compare_configs(&p, out);
    }
    pair_fini(&p);
    return rc;
}

/* A mixture that is not the encoder's says nothing about its run. */
static void reject_foreign(struct step_comparison *out, const struct step_identity encoders[2],
                           const struct step_identity mixtures[2])
{
    for (unsigned side = 0; side < 2; side++)
        if (out->files[0].state[side] == FILE_SOUND && out->files[1].state[side] == FILE_SOUND &&
            step_identity_match(&encoders[side], &mixtures[side], &out->files[1].damage[side]) != 0)
            out->files[1].state[side] = FILE_DAMAGED;
}

static int compare_mixtures(struct step_comparison *out, const struct step_identity encoders[2], bool joint,
                            struct error *e)
{
    struct step_identity identities[2] = {{.step = STEP_UNKNOWN}, {.step = STEP_UNKNOWN}};
    struct pair p = {0};
    int rc = load_pair(out->directory, &p, &out->files[1], e);
    if (rc == 0) {
        read_identities(&p, &out->files[1], identities);
        reject_foreign(out, encoders, identities);
    }
    if (rc == 0 && both(&out->files[1], FILE_SOUND))
        compare_files(&p, &out->files[1]);
    if (rc == 0 && both(&out->files[1], FILE_ABSENT))
        out->files[1].identical = joint;
    pair_fini(&p);
    return rc;
}

int step_compare(const char *a, const char *b, struct step_comparison *out, struct error *e)
{
    struct step_identity encoders[2] = {{.step = STEP_UNKNOWN}, {.step = STEP_UNKNOWN}};
    bool joint = false;
    memset(out, 0, sizeof *out);
    out->directory[0] = a;
    out->directory[1] = b;
    out->files[0].name = ENCODER_FILE;
    out->files[1].name = MIXTURE_FILE;
    int rc = compare_encoders(out, encoders, &joint, e);
    if (rc == 0)
        rc = compare_mixtures(out, encoders, joint, e);
    out->identical = out->files[0].identical && out->files[1].identical;
    return rc;
}
