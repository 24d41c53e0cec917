/* Reads directories, and says what may not be read. */
#include "cli/step_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "common/files.h"
#include "proto/run_dir.h"
#include "common/safetensors.h"
#include "cli/step_file.h"

/* 0 with *there, or ERR_IO: what may not be looked at is not absent. */
static int has_file(const char *directory, const char *name, bool *there, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    if (path_format(path, sizeof path, "%s/%s", directory, name) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s/%s", directory, name);
    struct error why = {0};
    int rc = file_probe(path, &why);
    *there = rc == 0;
    return rc == 0 || rc == ERR_NOT_FOUND ? 0 : error_set(e, rc, "%s", why.text);
}

static int add(struct step_list *l, uint64_t step, const char *directory, struct error *e)
{
    struct step_entry *items = realloc(l->items, (l->count + 1) * sizeof *items);
    if (!items)
        return error_set(e, ERR_MEMORY, "out of memory for the list of steps");
    l->items = items;
    struct step_entry *s = &items[l->count];
    *s = (struct step_entry){.step = step};
    if (path_format(s->directory, sizeof s->directory, "%s", directory) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s", directory);
    int rc = has_file(directory, ENCODER_FILE, &s->has_encoder, e);
    if (rc == 0)
        rc = has_file(directory, MIXTURE_FILE, &s->has_mixture, e);
    l->count += rc == 0;
    return rc;
}

static int add_entries(DIR *d, const char *path, struct step_list *out, struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX];
    uint64_t step;
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(d)) != NULL;)
        if (run_dir_parse_step(entry->d_name, &step))
            rc = path_format(directory, sizeof directory, "%s/%s", path, entry->d_name) == 0
                     ? add(out, step, directory, e)
                     : error_set(e, ERR_RANGE, "path too long: %s/%s", path, entry->d_name);
    return rc;
}

static int by_step(const void *a, const void *b)
{
    const struct step_entry *x = a, *y = b;
    return x->step < y->step ? -1 : x->step > y->step;
}

static int add_steps(const char *path, struct step_list *out, struct error *e)
{
    DIR *d = opendir(path);
    if (!d)
        return error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
    int rc = add_entries(d, path, out, e);
    closedir(d);
    if (out->count > 0)
        qsort(out->items, out->count, sizeof *out->items, by_step);
    return rc;
}

static bool is_joint(const char *directory)
{
    char path[CHECKPOINT_PATH_MAX];
    struct safetensors encoder;
    struct run_config config;
    if (path_format(path, sizeof path, "%s/" ENCODER_FILE, directory) != 0 ||
        safetensors_read(path, &encoder, NULL) != 0)
        return false;
    bool joint = step_file_config(&encoder, &config, NULL) == 0 && config.loss.prototypes == PROTOTYPES_JOINT;
    safetensors_fini(&encoder);
    return joint;
}

/* A run is joint or not as a whole, so that one of its encoders speaks for all. */
static void mark_joint(struct step_list *l)
{
    bool asked = false, joint = false;
    for (size_t i = l->count; i-- > 0;) {
        struct step_entry *s = &l->items[i];
        if (!s->has_encoder || s->has_mixture)
            continue;
        joint = asked ? joint : is_joint(s->directory);
        asked = true;
        s->joint = joint;
    }
}

static int list(const char *path, struct step_list *out, struct error *e)
{
    char checkpoints[CHECKPOINT_PATH_MAX];
    bool encoder = false, mixture = false, below = false;
    if (path_format(checkpoints, sizeof checkpoints, "%s/checkpoints", path) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s", path);
    int rc = has_file(path, ENCODER_FILE, &encoder, e);
    if (rc == 0)
        rc = has_file(path, MIXTURE_FILE, &mixture, e);
    if (rc == 0)
        rc = has_file(path, "checkpoints", &below, e);
    out->direct = encoder || mixture;
    if (rc != 0)
        return rc;
    return out->direct ? add(out, step_of_directory(path), path, e) : add_steps(below ? checkpoints : path, out, e);
}

int step_list_read(const char *path, struct step_list *out, struct error *e)
{
    *out = (struct step_list){0};
    int rc = list(path, out, e);
    if (rc == 0 && out->count == 0)
        rc = error_set(e, ERR_NOT_FOUND,
                       "%s: no checkpoint here; name a run's directory, its checkpoints directory, or a step-NNNNNN "
                       "directory",
                       path);
    if (rc == 0)
        mark_joint(out);
    else
        step_list_fini(out);
    return rc;
}

void step_list_fini(struct step_list *l)
{
    free(l->items);
    *l = (struct step_list){0};
}

const struct step_entry *step_list_find(const struct step_list *l, uint64_t step)
{
    for (size_t i = 0; i < l->count; i++)
        if (l->items[i].step == step)
            return &l->items[i];
    return NULL;
}

bool step_entry_complete(const struct step_entry *s)
{
    return s->has_encoder && (s->has_mixture || s->joint);
}
