/* Finding and opening checkpoints. */
#include "cli/checkpoint.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cli/printable.h"
#include "cli/step_list.h"
#include "common/files.h"
#include "common/log.h"
#include "proto/run_dir.h"

enum { LATEST_MAX = 64 }; /* bytes of the file `latest` */

/* directory/name exists; path receives it. */
static bool holds(const char *directory, const char *name, char path[CHECKPOINT_PATH_MAX])
{
    return path_format(path, CHECKPOINT_PATH_MAX, "%s/%s", directory, name) == 0 && access(path, R_OK) == 0;
}

/* Follows the pointer file `latest` (at `path`) of the directory `checkpoints`. */
static int follow_latest(const char *checkpoints, const char *path, char directory[CHECKPOINT_PATH_MAX],
                         struct error *e)
{
    struct buf *text;
    char name[LATEST_MAX + 1];
    int rc = file_read(path, LATEST_MAX, &text, e);
    if (rc != 0)
        return rc;
    memcpy(name, text->data, text->size);
    name[text->size] = '\0';
    buf_unref(&text);
    name[strcspn(name, " \r\n")] = '\0';
    if (strncmp(name, "step-", 5) != 0 || strchr(name, '/') != NULL)
        return error_set(e, ERR_FORMAT, "%s: expected 'step-NNNNNN', found '%s'", path, name);
    rc = path_format(directory, CHECKPOINT_PATH_MAX, "%s/%s", checkpoints, name);
    if (rc != 0)
        return error_set(e, rc, "path too long: %s/%s", checkpoints, name);
    char encoder[CHECKPOINT_PATH_MAX];
    return holds(directory, ENCODER_FILE, encoder)
               ? 0
               : error_set(e, ERR_NOT_FOUND, "%s names %s, which has no " ENCODER_FILE, path, name);
}

static int newest_complete(const char *path, char directory[CHECKPOINT_PATH_MAX])
{
    struct step_list l;
    int rc = step_list_read(path, &l, NULL);
    if (rc != 0)
        return rc;
    size_t n = l.count;
    while (n > 0 && !step_entry_complete(&l.items[n - 1]))
        n--;
    rc = n > 0 ? path_format(directory, CHECKPOINT_PATH_MAX, "%s", l.items[n - 1].directory) : ERR_NOT_FOUND;
    step_list_fini(&l);
    return rc;
}

/* By the pointer `latest`, wherever it is. */
static int find_latest(const char *path, char directory[CHECKPOINT_PATH_MAX], struct error *e)
{
    char found[CHECKPOINT_PATH_MAX], checkpoints[CHECKPOINT_PATH_MAX];
    if (holds(path, "latest", found))
        return follow_latest(path, found, directory, e);
    if (holds(path, "checkpoints/latest", found) && holds(path, "checkpoints", checkpoints))
        return follow_latest(checkpoints, found, directory, e);
    return error_set(e, ERR_NOT_FOUND,
                     "%s: no checkpoint here; name a run's directory (with checkpoints/latest), its checkpoints "
                     "directory, or a step-NNNNNN directory",
                     path);
}

int checkpoint_find(const char *path, char directory[CHECKPOINT_PATH_MAX], struct error *e)
{
    char found[CHECKPOINT_PATH_MAX];
    struct error why = {0};
    if (holds(path, ENCODER_FILE, found)) {
        int rc = path_format(directory, CHECKPOINT_PATH_MAX, "%s", path);
        return rc != 0 ? error_set(e, rc, "path too long: %s", path) : 0;
    }
    int rc = find_latest(path, directory, &why);
    if (rc == 0)
        return 0;
    if (newest_complete(path, found) != 0)
        return error_set(e, rc, "%s", why.text);
    memcpy(directory, found, sizeof found);
    log_warn("event=latest_unusable taken=%s cause=\"%s\" hint=\"decant resume repairs it\"", directory,
             printable(why.text));
    return 0;
}

int checkpoint_config(const struct safetensors *encoder, struct run_config *out, struct error *e)
{
    for (size_t i = 0; i < encoder->tensor_count; i++)
        if (strcmp(encoder->tensors[i].name, "config_ini") == 0 && encoder->tensors[i].dtype == DTYPE_U8)
            return run_config_from_record(out, encoder->tensors[i].data, encoder->tensors[i].size, "config_ini", e);
    return error_set(e, ERR_FORMAT, "has no tensor 'config_ini'");
}

int checkpoint_step(const struct safetensors *file, uint64_t *step, struct error *e)
{
    const char *text = safetensors_meta(file, "step");
    char *end = NULL;
    if (text)
        *step = strtoull(text, &end, 10);
    if (!text || end == text || *end != '\0')
        return error_set(e, ERR_FORMAT, "metadata 'step' is missing or not a number");
    return 0;
}

/* What the encoder says, with the file's name before what is wrong. */
static int read_encoder(const char *path, struct checkpoint *c, struct error *e)
{
    struct error why = {0};
    int rc = safetensors_read(path, &c->encoder, e);
    if (rc != 0)
        return rc;
    rc = checkpoint_step(&c->encoder, &c->step, &why);
    if (rc == 0)
        rc = checkpoint_config(&c->encoder, &c->config, &why);
    return rc == 0 ? 0 : error_set(e, rc, "%.200s: %.300s", path, why.text);
}

int checkpoint_open(const char *path, struct checkpoint *out, struct error *e)
{
    char file[CHECKPOINT_PATH_MAX];
    memset(out, 0, sizeof *out);
    int rc = checkpoint_find(path, out->directory, e);
    if (rc == 0 && path_format(file, sizeof file, "%s/encoder.safetensors", out->directory) != 0)
        rc = error_set(e, ERR_RANGE, "path too long: %s", out->directory);
    if (rc == 0)
        rc = read_encoder(file, out, e);
    if (rc == 0 && holds(out->directory, "mixture.safetensors", file)) {
        rc = safetensors_read(file, &out->mixture, e);
        out->has_mixture = rc == 0;
    }
    if (rc != 0)
        checkpoint_close(out);
    return rc;
}

void checkpoint_close(struct checkpoint *c)
{
    safetensors_fini(&c->encoder);
    safetensors_fini(&c->mixture);
    c->has_mixture = false;
}
