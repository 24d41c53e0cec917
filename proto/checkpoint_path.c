/* Tries the directories in the order of their depth. */
#include "proto/checkpoint_path.h"

#include <string.h>
#include <sys/stat.h>
#include "common/buf.h"
#include "common/files.h"

enum { LATEST_MAX = 64 }; /* bytes of the file `latest` */

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* DIRECTORY/STEP/FILE, STEP being what DIRECTORY/latest says. */
static int follow_latest(const char *directory, const char *file, char out[RUN_PATH_MAX], struct error *e)
{
    char path[RUN_PATH_MAX], name[LATEST_MAX + 1];
    struct buf *text;
    uint64_t step;
    int rc = path_format(path, sizeof path, "%s/latest", directory);
    if (rc != 0)
        return error_set(e, rc, "path too long: %.200s", directory);
    rc = file_read(path, LATEST_MAX, &text, e);
    if (rc != 0)
        return rc;
    memcpy(name, text->data, text->size);
    name[text->size] = '\0';
    buf_unref(&text);
    name[strcspn(name, " \r\n")] = '\0';
    if (!run_dir_parse_step(name, &step))
        return error_set(e, ERR_FORMAT, "%s: expected step-NNNNNN", path);
    rc = path_format(out, RUN_PATH_MAX, "%s/%s/%s", directory, name, file);
    if (rc != 0)
        return error_set(e, rc, "path too long: %.200s", directory);
    return is_file(out) ? 0 : error_set(e, ERR_NOT_FOUND, "%s names %s, which has no %s", path, name, file);
}

int checkpoint_path_find(const char *path, const char *file, char out[RUN_PATH_MAX], struct error *e)
{
    char below[RUN_PATH_MAX];
    if (path_format(out, RUN_PATH_MAX, "%s", path) != 0 ||
        path_format(below, sizeof below, "%s/checkpoints/latest", path) != 0)
        return error_set(e, ERR_RANGE, "path too long: %.200s", path);
    if (is_file(path))
        return 0;
    if (path_format(out, RUN_PATH_MAX, "%s/%s", path, file) == 0 && is_file(out))
        return 0;
    if (is_file(below)) {
        below[strlen(below) - strlen("/latest")] = '\0';
        return follow_latest(below, file, out, e);
    }
    int rc = follow_latest(path, file, out, e);
    return rc != ERR_NOT_FOUND || is_file(out)
               ? rc
               : error_set(e, rc,
                           "%.300s: no %s there; name a run's directory, its checkpoints, one step's, or a safetensors "
                           "file",
                           path, file);
}
