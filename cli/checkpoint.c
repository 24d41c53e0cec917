/* Finding and opening checkpoints. */
#include "cli/checkpoint.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/printable.h"
#include "cli/step_file.h"
#include "cli/step_list.h"
#include "common/files.h"
#include "common/log.h"
#include "proto/run_dir.h"

/* directory/name is there: 0, and path receives it. ERR_NOT_FOUND, or why that cannot be told. */
static int holds(const char *directory, const char *name, char path[CHECKPOINT_PATH_MAX], struct error *e)
{
    if (path_format(path, CHECKPOINT_PATH_MAX, "%s/%s", directory, name) != 0)
        return error_set(e, ERR_RANGE, "path too long: %s/%s", directory, name);
    return file_probe(path, e);
}

/* The directory is that of a step: 0, ERR_NOT_FOUND, or why that cannot be told. */
static int holds_step(const char *directory, struct error *e)
{
    char path[CHECKPOINT_PATH_MAX];
    int rc = holds(directory, ENCODER_FILE, path, e);
    return rc == ERR_NOT_FOUND && step_is_stream(directory) ? 0 : rc;
}

/* Follows the pointer file `latest` (at `path`) of the directory `checkpoints`. */
static int follow_latest(const char *checkpoints, const char *path, char directory[CHECKPOINT_PATH_MAX],
                         struct error *e)
{
    uint64_t step;
    int rc = run_dir_read_pointer(path, &step, e);
    if (rc != 0)
        return rc;
    rc = path_format(directory, CHECKPOINT_PATH_MAX, "%s/step-%06" PRIu64, checkpoints, step);
    if (rc != 0)
        return error_set(e, rc, "path too long: %s", checkpoints);
    rc = holds_step(directory, e);
    return rc == ERR_NOT_FOUND ? error_set(e, rc, "%s names step-%06" PRIu64 ", which has no " ENCODER_FILE, path, step)
                               : rc;
}

static int newest_complete(const char *path, char directory[CHECKPOINT_PATH_MAX], struct error *e)
{
    struct step_list l;
    int rc = step_list_read(path, &l, e);
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
    int rc = holds(path, "latest", found, e);
    if (rc == 0)
        return follow_latest(path, found, directory, e);
    if (rc == ERR_NOT_FOUND)
        rc = holds(path, "checkpoints/latest", found, e);
    if (rc == 0)
        rc = holds(path, "checkpoints", checkpoints, e);
    if (rc == 0)
        return follow_latest(checkpoints, found, directory, e);
    if (rc != ERR_NOT_FOUND)
        return rc;
    return error_set(e, ERR_NOT_FOUND,
                     "%s: no checkpoint here; name a run's directory (with checkpoints/latest), its checkpoints "
                     "directory, or a step-NNNNNN directory",
                     path);
}

/* RUN/checkpoints/best, or another pointer: the step beside it that it names. False when path is none. */
static bool find_named(const char *path, char directory[CHECKPOINT_PATH_MAX])
{
    struct stat st;
    uint64_t step;
    const char *slash = strrchr(path, '/');
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || run_dir_read_pointer(path, &step, NULL) != 0)
        return false;
    return path_format(directory, CHECKPOINT_PATH_MAX, "%.*sstep-%06" PRIu64, slash ? (int)(slash - path) + 1 : 0, path,
                       step) == 0;
}

/* Nothing else is tried when something is there that may not be read: it could be newer. */
int checkpoint_find(const char *path, char directory[CHECKPOINT_PATH_MAX], struct error *e)
{
    char found[CHECKPOINT_PATH_MAX];
    struct error why = {0}, unlisted = {0};
    struct stat st;
    if (find_named(path, directory))
        return 0;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        return error_set(
            e, ERR_IO, "%s is no directory; name a run's, its checkpoints, one step's, or RUN/checkpoints/best", path);
    int rc = holds_step(path, &why);
    if (rc == 0) {
        rc = path_format(directory, CHECKPOINT_PATH_MAX, "%s", path);
        return rc != 0 ? error_set(e, rc, "path too long: %s", path) : 0;
    }
    if (rc == ERR_NOT_FOUND)
        rc = find_latest(path, directory, &why);
    if (rc == 0)
        return 0;
    if (rc != ERR_NOT_FOUND && rc != ERR_FORMAT)
        return error_set(e, rc, "%s", why.text);
    int listed = newest_complete(path, found, &unlisted);
    if (listed == ERR_IO)
        return error_set(e, listed, "%s", unlisted.text);
    if (listed != 0)
        return error_set(e, rc, "%s", why.text);
    memcpy(directory, found, sizeof found);
    log_warn("event=latest_unusable taken=%s cause=\"%s\" hint=\"decant resume repairs it\"", directory,
             printable(why.text));
    return 0;
}

/* What the encoder says, or the mixture of a stream, with the file's name before what is wrong. */
static int read_first(const char *path, struct safetensors *file, struct checkpoint *c, struct step_identity *identity,
                      struct error *e)
{
    struct error why = {0};
    int rc = safetensors_read(path, file, e);
    if (rc != 0)
        return rc;
    rc = step_identity_read(file, identity, &why);
    if (rc == 0)
        rc = step_identity_placed(identity, step_of_directory(c->directory), &why);
    if (rc == 0)
        rc = step_file_config(file, &c->config, &why);
    if (rc == 0)
        rc = step_identity_home(identity, &c->config, c->directory, &why);
    c->step = identity->step;
    return rc == 0 ? 0 : error_set(e, rc, "%.200s: %.300s", path, why.text);
}

static int read_mixture(const char *path, struct checkpoint *c, const struct step_identity *encoder, struct error *e)
{
    struct step_identity identity;
    struct error why = {0};
    int rc = safetensors_read(path, &c->mixture, e);
    if (rc != 0)
        return rc;
    c->has_mixture = true;
    rc = step_identity_read(&c->mixture, &identity, &why);
    if (rc == 0)
        rc = step_identity_match(encoder, &identity, &why);
    return rc == 0 ? 0 : error_set(e, rc, "%.200s: %.300s", path, why.text);
}

static int open_stream(struct checkpoint *out, struct error *e)
{
    char file[CHECKPOINT_PATH_MAX];
    struct step_identity identity;
    int rc = holds(out->directory, MIXTURE_FILE, file, e);
    if (rc == 0)
        rc = read_first(file, &out->mixture, out, &identity, e);
    out->has_mixture = rc == 0;
    return rc;
}

static int open_run(struct checkpoint *out, struct error *e)
{
    char file[CHECKPOINT_PATH_MAX];
    struct step_identity identity;
    int rc = holds(out->directory, ENCODER_FILE, file, e);
    if (rc == 0)
        rc = read_first(file, &out->encoder, out, &identity, e);
    if (rc == 0) {
        rc = holds(out->directory, MIXTURE_FILE, file, e);
        rc = rc == 0 ? read_mixture(file, out, &identity, e) : rc == ERR_NOT_FOUND ? 0 : rc;
    }
    return rc;
}

int checkpoint_open(const char *path, struct checkpoint *out, struct error *e)
{
    char file[CHECKPOINT_PATH_MAX];
    memset(out, 0, sizeof *out);
    int rc = checkpoint_find(path, out->directory, e);
    bool stream = rc == 0 && holds(out->directory, ENCODER_FILE, file, NULL) == ERR_NOT_FOUND;
    if (rc == 0)
        rc = stream ? open_stream(out, e) : open_run(out, e);
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
