/* Directory scanning and the order of writes. `latest` comes last: it never names a step that is not complete. */
#include "server/parameter/checkpoints.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "common/files.h"
#include "common/log.h"
#include "common/safetensors.h"

enum { PATH_ROOM = 1280, GENERATION_BYTES_MAX = 64 };

#define EXTENSION ".safetensors"

/* A joint run has this server only. */
static unsigned files_of_step(const struct run_config *c)
{
    return c->loss.prototypes == PROTOTYPES_JOINT ? 1 : 2;
}

static int step_path(char out[PATH_ROOM], const struct run_config *c, uint64_t step, const char *file, struct error *e)
{
    if (path_format(out, PATH_ROOM, "%s/checkpoints/step-%06" PRIu64 "%s", c->run.out, step, file) != 0)
        return error_set(e, ERR_RANGE, "run.out = %s: the path is too long", c->run.out);
    return 0;
}

static bool is_tensor_file(const char *name)
{
    size_t length = strlen(name), extension = strlen(EXTENSION);
    return length > extension && strcmp(name + length - extension, EXTENSION) == 0;
}

static bool is_sound(const char *dir, const char *name)
{
    char path[PATH_ROOM];
    struct safetensors file;
    struct error e;
    if (path_format(path, sizeof path, "%s/%s", dir, name) != 0)
        return false;
    if (safetensors_read(path, &file, &e) != 0) {
        log_warn("event=checkpoint_damaged %s", e.text);
        return false;
    }
    safetensors_fini(&file);
    return true;
}

/* Tensor files in a step's directory; with `sound`, only those that pass their checks. */
static unsigned count_files(const char *dir, bool sound)
{
    DIR *d = opendir(dir);
    unsigned count = 0;
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        if (is_tensor_file(entry->d_name) && (!sound || is_sound(dir, entry->d_name)))
            count++;
    if (d != NULL)
        closedir(d);
    return count;
}

static int write_latest(const struct run_config *c, uint64_t step, struct error *e)
{
    char path[PATH_ROOM], text[32];
    if (path_format(path, sizeof path, "%s/checkpoints/latest", c->run.out) != 0)
        return error_set(e, ERR_RANGE, "run.out = %s: the path is too long", c->run.out);
    int length = snprintf(text, sizeof text, "step-%06" PRIu64 "\n", step);
    return file_write_atomic(path, &(struct file_part){text, (size_t)length}, 1, e);
}

int encoder_checkpoint_write(const struct run_config *c, const struct encoder_state *s, struct error *e)
{
    char dir[PATH_ROOM], path[PATH_ROOM];
    int rc = step_path(dir, c, s->step, "", e);
    if (rc == 0)
        rc = step_path(path, c, s->step, "/encoder" EXTENSION, e);
    if (rc == 0)
        rc = dir_make(dir, e);
    if (rc == 0)
        rc = weights_file_write(path, c, s, e);
    if (rc == 0 && count_files(dir, false) >= files_of_step(c))
        rc = write_latest(c, s->step, e);
    return rc;
}

/* ---- resuming ---- */

static bool parse_step(const char *name, uint64_t *step)
{
    int end = 0;
    return sscanf(name, "step-%" SCNu64 "%n", step, &end) == 1 && name[end] == '\0';
}

/* The largest step below *below that has a directory. */
static bool find_below(const char *dir, uint64_t below, uint64_t *step)
{
    DIR *d = opendir(dir);
    bool found = false;
    uint64_t candidate;
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;)
        if (parse_step(entry->d_name, &candidate) && candidate < below && (!found || candidate > *step)) {
            *step = candidate;
            found = true;
        }
    if (d != NULL)
        closedir(d);
    return found;
}

/* One step's state if all its files are sound. */
static int load_step(const struct run_config *c, uint64_t step, struct encoder_state *out, struct error *e)
{
    char dir[PATH_ROOM], path[PATH_ROOM];
    int rc = step_path(dir, c, step, "", e);
    if (rc == 0)
        rc = step_path(path, c, step, "/encoder" EXTENSION, e);
    if (rc != 0)
        return rc;
    if (count_files(dir, true) < files_of_step(c))
        return error_set(e, ERR_FORMAT, "%s: incomplete", dir);
    rc = weights_file_read(path, c, out, e);
    if (rc == 0 && out->step != step) {
        encoder_state_fini(out);
        rc = error_set(e, ERR_FORMAT, "%s: holds step %" PRIu64, path, out->step);
    }
    return rc;
}

int encoder_checkpoint_resume(const struct run_config *c, struct encoder_state *out, struct error *e)
{
    char dir[PATH_ROOM];
    if (path_format(dir, sizeof dir, "%s/checkpoints", c->run.out) != 0)
        return error_set(e, ERR_RANGE, "run.out = %s: the path is too long", c->run.out);
    uint64_t step = UINT64_MAX;
    while (find_below(dir, step, &step)) {
        int rc = load_step(c, step, out, e);
        if (rc == 0 || rc == ERR_CONFIG || rc == ERR_MEMORY)
            return rc;
        log_warn("event=checkpoint_skipped step=%" PRIu64 " cause=\"%s\"", step, e->text);
    }
    return error_set(e, ERR_NOT_FOUND, "%s: no complete checkpoint", dir);
}

/* ---- generation ---- */

static int read_generation(const char *path, uint64_t *generation, struct error *e)
{
    struct buf *text = NULL;
    char digits[GENERATION_BYTES_MAX + 1] = "", *end;
    int rc = file_read(path, GENERATION_BYTES_MAX, &text, e);
    if (rc != 0)
        return rc;
    memcpy(digits, text->data, text->size);
    buf_unref(&text);
    errno = 0;
    *generation = strtoull(digits, &end, 10);
    if (end == digits || (*end != '\n' && *end != '\0') || errno != 0 || *generation >= UINT32_MAX)
        return error_set(e, ERR_FORMAT, "%s: '%s' is not a generation; remove the file when no worker is running", path,
                         digits);
    return 0;
}

int parameter_generation_raise(const char *out_dir, uint64_t *generation, struct error *e)
{
    char path[PATH_ROOM], text[32];
    if (path_format(path, sizeof path, "%s/generation-parameter", out_dir) != 0)
        return error_set(e, ERR_RANGE, "run.out = %s: the path is too long", out_dir);
    *generation = 0;
    int rc = dir_make(out_dir, e);
    if (rc == 0)
        rc = read_generation(path, generation, e);
    if (rc != 0 && rc != ERR_NOT_FOUND)
        return rc;
    int length = snprintf(text, sizeof text, "%" PRIu64 "\n", ++*generation);
    return file_write_atomic(path, &(struct file_part){text, (size_t)length}, 1, e);
}
