/* Reads directories. */
#include "cli/step_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/files.h"
#include "proto/run_dir.h"

static bool has_file(const char *directory, const char *name)
{
    char path[CHECKPOINT_PATH_MAX];
    return path_format(path, sizeof path, "%s/%s", directory, name) == 0 && access(path, F_OK) == 0;
}

static int add(struct step_list *l, uint64_t step, const char *directory, struct error *e)
{
    struct step_entry *items = realloc(l->items, (l->count + 1) * sizeof *items);
    if (!items)
        return error_set(e, ERR_MEMORY, "out of memory for the list of steps");
    l->items = items;
    struct step_entry *s = &items[l->count];
    *s = (struct step_entry){.step = step,
                             .has_encoder = has_file(directory, ENCODER_FILE),
                             .has_mixture = has_file(directory, MIXTURE_FILE)};
    if (path_format(s->directory, sizeof s->directory, "%s", directory) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s", directory);
    l->count++;
    return 0;
}

/* Of a step's directory itself; the name may be hidden behind "." or a trailing slash. */
static uint64_t step_of_directory(const char *path)
{
    uint64_t step = STEP_UNKNOWN;
    char *full = realpath(path, NULL);
    const char *name = full ? strrchr(full, '/') : NULL;
    if (!name || !run_dir_parse_step(name + 1, &step))
        step = STEP_UNKNOWN;
    free(full);
    return step;
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

int step_list_read(const char *path, struct step_list *out, struct error *e)
{
    char checkpoints[CHECKPOINT_PATH_MAX];
    *out = (struct step_list){0};
    if (path_format(checkpoints, sizeof checkpoints, "%s/checkpoints", path) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s", path);
    out->direct = has_file(path, ENCODER_FILE) || has_file(path, MIXTURE_FILE);
    int rc = out->direct ? add(out, step_of_directory(path), path, e)
                         : add_steps(has_file(path, "checkpoints") ? checkpoints : path, out, e);
    if (rc == 0 && out->count == 0)
        rc = error_set(e, ERR_NOT_FOUND,
                       "%s: no checkpoint here; name a run's directory, its checkpoints directory, or a step-NNNNNN "
                       "directory",
                       path);
    if (rc != 0)
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
    struct checkpoint c;
    if (!s->has_encoder || s->has_mixture)
        return s->has_encoder;
    if (checkpoint_open(s->directory, &c, NULL) != 0)
        return false;
    bool joint = c.config.loss.prototypes == PROTOTYPES_JOINT;
    checkpoint_close(&c);
    return joint;
}
