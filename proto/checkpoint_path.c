/* Tries the directories in the order of their depth. */
#include "proto/checkpoint_path.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include "common/files.h"

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* DIRECTORY/STEP/FILE, STEP being what the pointer DIRECTORY/POINTER says. */
static int follow(const char *directory, const char *pointer, const char *file, char out[RUN_PATH_MAX], struct error *e)
{
    char path[RUN_PATH_MAX];
    uint64_t step;
    int rc = path_format(path, sizeof path, "%s/%s", directory, pointer);
    if (rc != 0)
        return error_set(e, rc, "path too long: %.200s", directory);
    rc = run_dir_read_pointer(path, &step, e);
    if (rc != 0)
        return rc;
    rc = path_format(out, RUN_PATH_MAX, "%s/step-%06" PRIu64 "/%s", directory, step, file);
    if (rc != 0)
        return error_set(e, rc, "path too long: %.200s", directory);
    return is_file(out) ? 0
                        : error_set(e, ERR_NOT_FOUND, "%s names step %" PRIu64 ", which has no %s", path, step, file);
}

/* "runs/a/checkpoints/best": cut in two at the last slash. */
static int follow_named(char *path, const char *file, char out[RUN_PATH_MAX], struct error *e)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        return follow(".", path, file, out, e);
    *slash = '\0';
    return follow(path, slash + 1, file, out, e);
}

static bool is_pointer(const char *path)
{
    uint64_t step;
    return run_dir_read_pointer(path, &step, NULL) == 0;
}

int checkpoint_path_find(const char *path, const char *file, char out[RUN_PATH_MAX], struct error *e)
{
    char below[RUN_PATH_MAX];
    if (path_format(out, RUN_PATH_MAX, "%s", path) != 0 ||
        path_format(below, sizeof below, "%s/checkpoints/latest", path) != 0)
        return error_set(e, ERR_RANGE, "path too long: %.200s", path);
    if (is_file(path) && is_pointer(path)) {
        path_format(below, sizeof below, "%s", path);
        return follow_named(below, file, out, e);
    }
    if (is_file(path))
        return 0;
    if (path_format(out, RUN_PATH_MAX, "%s/%s", path, file) == 0 && is_file(out))
        return 0;
    if (is_file(below)) {
        below[strlen(below) - strlen("/latest")] = '\0';
        return follow(below, "latest", file, out, e);
    }
    int rc = follow(path, "latest", file, out, e);
    return rc != ERR_NOT_FOUND || is_file(out)
               ? rc
               : error_set(e, rc,
                           "%.300s: no %s there; name a run's directory, its checkpoints, one step's, or a safetensors "
                           "file",
                           path, file);
}
