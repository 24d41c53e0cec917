/* The directory of checkpoints. Runs at start, and on a thread of libuv's pool while training. */
#include "server/prototype/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/files.h"
#include "common/log.h"
#include "common/safetensors.h"

enum { CHECKPOINT_PATH_MAX = 1280 }; /* run.out plus the names below it */

static int step_path(char *path, const char *out, uint64_t step, const char *name, struct error *e)
{
    int rc = path_format(path, CHECKPOINT_PATH_MAX, "%s/checkpoints/step-%06" PRIu64 "%s", out, step, name);
    return rc != 0 ? error_set(e, rc, "run.out is too long: %s", out) : 0;
}

/* The other server may write `latest` at the same time, hence a temporary name of our own before the rename. */
static int write_latest(const char *out, uint64_t step, struct error *e)
{
    char ours[CHECKPOINT_PATH_MAX], latest[CHECKPOINT_PATH_MAX], text[32];
    struct file_part part = {text, (size_t)snprintf(text, sizeof text, "step-%06" PRIu64 "\n", step)};
    if (path_format(ours, sizeof ours, "%s/checkpoints/latest.prototype", out) != 0 ||
        path_format(latest, sizeof latest, "%s/checkpoints/latest", out) != 0)
        return error_set(e, ERR_RANGE, "run.out is too long: %s", out);
    int rc = file_write_atomic(ours, &part, 1, e);
    if (rc == 0 && rename(ours, latest) != 0)
        rc = error_set(e, ERR_IO, "%s: rename: %s", latest, strerror(errno));
    return rc;
}

int mixture_checkpoint_write(const char *out, const struct mixture *m, const struct mixture_file_info *info,
                             struct error *e)
{
    char directory[CHECKPOINT_PATH_MAX], file[CHECKPOINT_PATH_MAX], encoder[CHECKPOINT_PATH_MAX];
    uint64_t step = m->view->version;
    int rc = step_path(directory, out, step, "", e);
    if (rc == 0)
        rc = step_path(file, out, step, "/mixture.safetensors", e);
    if (rc == 0)
        rc = step_path(encoder, out, step, "/encoder.safetensors", e);
    if (rc == 0)
        rc = dir_make(directory, e);
    if (rc == 0)
        rc = mixture_file_write(file, m, info, e);
    if (rc == 0 && access(encoder, R_OK) == 0)
        rc = write_latest(out, step, e);
    return rc;
}

/* ---- resuming ---- */

static int newest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* "step-000120" -> 120; false for any other name. */
static bool parse_step(const char *name, uint64_t *step)
{
    int used = 0;
    return sscanf(name, "step-%" SCNu64 "%n", step, &used) == 1 && name[used] == '\0';
}

/* Steps that have a directory, newest first; *steps is the caller's to free. */
static int list_steps(const char *out, uint64_t **steps, size_t *count, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    *steps = NULL;
    *count = 0;
    if (path_format(path, sizeof path, "%s/checkpoints", out) != 0)
        return error_set(e, ERR_RANGE, "run.out is too long: %s", out);
    DIR *d = opendir(path);
    if (d == NULL)
        return errno == ENOENT ? 0 : error_set(e, ERR_IO, "%s: %s", path, strerror(errno));
    size_t room = 0;
    int rc = 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(d)) != NULL;) {
        uint64_t step;
        if (!parse_step(entry->d_name, &step))
            continue;
        if (*count == room) {
            room = room ? 2 * room : 64;
            uint64_t *grown = realloc(*steps, room * sizeof *grown);
            if (grown == NULL) {
                rc = ERR_MEMORY;
                break;
            }
            *steps = grown;
        }
        (*steps)[(*count)++] = step;
    }
    closedir(d);
    if (*count > 0)
        qsort(*steps, *count, sizeof **steps, newest_first);
    return rc;
}

/* The parameter server passes over an encoder file that is damaged, so we have to as well. */
static int check_encoder(const char *path, struct error *e)
{
    struct safetensors f;
    if (access(path, R_OK) != 0)
        return error_set(e, ERR_NOT_FOUND, "%s: %s", path, strerror(errno));
    int rc = safetensors_read(path, &f, e);
    if (rc == 0)
        safetensors_fini(&f);
    return rc;
}

static int resume_step(const char *out, uint64_t step, const struct mixture_file_info *expected, struct mixture *m,
                       uint64_t *total_steps, struct error *e)
{
    char file[CHECKPOINT_PATH_MAX], encoder[CHECKPOINT_PATH_MAX];
    int rc = step_path(file, out, step, "/mixture.safetensors", e);
    if (rc == 0)
        rc = step_path(encoder, out, step, "/encoder.safetensors", e);
    if (rc == 0)
        rc = mixture_file_read(file, expected, m, total_steps, e);
    if (rc == 0 && m->view->version != step)
        rc = error_set(e, ERR_FORMAT, "%s: holds step %" PRIu64, file, m->view->version);
    return rc == 0 ? check_encoder(encoder, e) : rc;
}

int mixture_checkpoint_resume(const char *out, const struct mixture_file_info *expected, struct mixture *m,
                              uint64_t *total_steps, struct error *e)
{
    uint64_t *steps;
    size_t count;
    int rc = list_steps(out, &steps, &count, e);
    bool found = false;
    for (size_t i = 0; rc == 0 && !found && i < count; i++) {
        struct error why = {0};
        int tried = resume_step(out, steps[i], expected, m, total_steps, &why);
        found = tried == 0;
        if (tried == ERR_CONFIG || tried == ERR_MEMORY)
            rc = error_set(e, tried, "%s", why.text);
        else if (tried != 0)
            log_warn("event=checkpoint_passed_over step=%" PRIu64 " reason=%s text=\"%s\"", steps[i], error_name(tried),
                     why.text);
    }
    free(steps);
    if (rc == 0 && !found)
        rc = error_set(e, ERR_NOT_FOUND, "%s/checkpoints has no step with both a valid mixture and encoder file", out);
    return rc;
}

int prototype_generation_raise(const char *out, uint64_t *generation, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX], text[32] = "";
    if (path_format(path, sizeof path, "%s/generation-prototype", out) != 0)
        return error_set(e, ERR_RANGE, "run.out is too long: %s", out);
    int rc = dir_make(out, e);
    if (rc != 0)
        return rc;
    struct buf *old = NULL;
    if (access(path, F_OK) == 0) {
        rc = file_read(path, sizeof text - 1, &old, e);
        if (rc != 0)
            return rc;
        memcpy(text, old->data, old->size);
        buf_unref(&old);
    }
    *generation = strtoull(text, NULL, 10) + 1;
    struct file_part part = {text, (size_t)snprintf(text, sizeof text, "%" PRIu64 "\n", *generation)};
    return file_write_atomic(path, &part, 1, e);
}
