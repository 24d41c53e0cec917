/* lstat before the work, rename after it. */
#include "cli/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/command.h"
#include "common/files.h"

/* -1, or the exit code having said what is wrong with where the file would lie. */
static int check_parent(const char *name, const char *path)
{
    char parent[1024];
    struct stat st;
    struct error e = {0};
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof parent)
        return command_usage(name, "path too long: %.200s", path);
    snprintf(parent, sizeof parent, "%.*s", length > 0 ? (int)length : 1, length > 0 ? path : ".");
    bool there = stat(parent, &st) == 0;
    if (there && S_ISDIR(st.st_mode) && access(parent, W_OK | X_OK) == 0)
        return -1;
    error_set(&e, ERR_IO, "%.200s: the directory %.200s cannot be written to: %s", path, parent,
              strerror(there && !S_ISDIR(st.st_mode) ? ENOTDIR : errno));
    return command_failed(name, &e);
}

int output_file_check(const char *name, const char *path, bool force)
{
    struct stat st;
    bool exists = lstat(path, &st) == 0;
    if (exists && !S_ISREG(st.st_mode))
        return command_usage(name, "%s is not a regular file and is not replaced; choose another name", path);
    if (exists && !force)
        return command_usage(name, "%s exists; choose another name, or add --force", path);
    return check_parent(name, path);
}

int output_file_check_picture(const char *name, const char *path, bool force)
{
    size_t length = strlen(path);
    if (length < 4 || strcasecmp(path + length - 4, ".png") != 0)
        return command_usage(name, "--sheet %s: the picture is a PNG file; call it FILE.png", path);
    return output_file_check(name, path, force);
}

int output_file_open(const char *path, struct output_file *out, struct error *e)
{
    int fd;
    out->f = NULL;
    if (path_format(out->path, sizeof out->path, "%s", path) != 0 ||
        path_format(out->temporary, sizeof out->temporary, "%s.inprogress", path) != 0)
        return error_set(e, ERR_RANGE, "path too long: %.200s", path);
    int rc = file_open(out->temporary, O_WRONLY | O_CREAT | O_TRUNC, &fd, e);
    if (rc != 0)
        return rc;
    out->f = fdopen(fd, "w");
    if (out->f != NULL)
        return 0;
    close(fd);
    unlink(out->temporary);
    return error_set(e, ERR_MEMORY, "%s: no memory to write it", path);
}

int output_file_close(struct output_file *out, int rc, struct error *e)
{
    bool written = !ferror(out->f) && fflush(out->f) == 0 && fsync(fileno(out->f)) == 0;
    written = fclose(out->f) == 0 && written;
    if (rc == 0 && !written)
        rc = error_set(e, ERR_IO, "write %s: %s", out->temporary, strerror(errno));
    if (rc == 0 && rename(out->temporary, out->path) != 0)
        rc = error_set(e, ERR_IO, "rename %s: %s", out->temporary, strerror(errno));
    if (rc != 0)
        unlink(out->temporary);
    return rc;
}
