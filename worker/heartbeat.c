/* Written in place and in one call: a reader sees the old line or the new one, and a disk that fills up costs the line
 * but not the worker. */
#include "worker/heartbeat.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "common/files.h"

int heartbeat_path(const struct run_config *c, char out[HEARTBEAT_PATH_MAX])
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (c->worker.heartbeat[0] != '\0')
        return path_format(out, HEARTBEAT_PATH_MAX, "%s", c->worker.heartbeat);
    if (runtime && runtime[0] == '/')
        return path_format(out, HEARTBEAT_PATH_MAX, "%s/decant-worker.alive", runtime);
    return path_format(out, HEARTBEAT_PATH_MAX, "/tmp/decant-worker-%ld.alive", (long)geteuid());
}

int heartbeat_write(const char *path, const char *line, struct error *e)
{
    size_t size = strlen(line);
    int fd, rc = file_open(path, O_WRONLY | O_CREAT | O_NOFOLLOW, &fd, e);
    if (rc != 0)
        return rc;
    bool written = pwrite(fd, line, size, 0) == (ssize_t)size && ftruncate(fd, (off_t)size) == 0;
    const char *why = strerror(errno);
    close(fd);
    return written ? 0 : error_set(e, ERR_IO, "write %s: %s", path, why);
}

void heartbeat_remove(const char *path)
{
    unlink(path);
}

static int read_line(int fd, const char *path, char out[HEARTBEAT_LINE_MAX], struct error *e)
{
    struct stat status;
    ssize_t n = read(fd, out, HEARTBEAT_LINE_MAX - 1);
    if (n < 0 || fstat(fd, &status) != 0)
        return error_set(e, ERR_IO, "read %s: %s", path, strerror(errno));
    out[n] = '\0';
    out[strcspn(out, "\n")] = '\0';
    double age = difftime(time(NULL), status.st_mtime);
    if (age > HEARTBEAT_AGE_MAX_S)
        return error_set(e, ERR_STATE, "%s is %.0f s old: the worker is gone or stuck; it said %s", path, age, out);
    return 0;
}

int heartbeat_read(const char *path, char out[HEARTBEAT_LINE_MAX], struct error *e)
{
    struct error cause = {0};
    int fd, rc = file_open(path, O_RDONLY, &fd, &cause);
    if (rc != 0)
        return error_set(e, rc, "%s; does a worker run here?", cause.text);
    rc = read_line(fd, path, out, e);
    close(fd);
    return rc;
}
