/* Opening, whole-file reads and atomic writes.
 *
 * Whoever may write into a directory that we read can put a FIFO there, and open() of a FIFO waits for the other
 * side, for ever if there is none. So nothing is opened without O_NONBLOCK, which means nothing to a regular file,
 * and what is open is looked at before it is used.
 *
 * Write: PATH.inprogress is locked, filled, fsynced, renamed over PATH, and the directory is fsynced. A crash before
 * the rename leaves the old PATH (and a stray .inprogress that the next write reuses); after it, the new one. The
 * lock lets two processes write the same PATH at once (both servers may write `latest`): the second waits, finds that
 * the file it locked has been renamed away, and starts over on a fresh one. */
#include "common/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int io_error(struct error *e, const char *what, const char *path)
{
    int code = errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    return error_set(e, code, "%s %s: %s", what, path, strerror(errno));
}

int file_probe(const char *path, struct error *e)
{
    if (access(path, R_OK) == 0)
        return 0;
    int code = errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
    return error_set(e, code, "%s: %s", path, strerror(errno));
}

/* ---- opening ---- */

static const char *kind_name(mode_t mode)
{
    static const struct {
        mode_t kind;
        const char *name;
    } names[] = {
        {S_IFDIR, "directory"}, {S_IFIFO, "FIFO"}, {S_IFSOCK, "socket"}, {S_IFCHR, "device"}, {S_IFBLK, "device"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((mode & S_IFMT) == names[i].kind)
            return names[i].name;
    return "special file";
}

static int refuse_kind(struct error *e, const char *path, mode_t mode)
{
    return error_set(e, ERR_IO, "open %s: it is a %s, not a regular file", path, kind_name(mode));
}

/* Some kinds are refused by open() itself, with words that do not say why: ENXIO for a socket or a FIFO that nobody
 * reads, EISDIR. */
static int open_error(struct error *e, const char *path)
{
    int reason = errno;
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return refuse_kind(e, path, st.st_mode);
    errno = reason;
    return io_error(e, "open", path);
}

int file_open(const char *path, int flags, int *fd, struct error *e)
{
    struct stat st;
    *fd = -1;
    int opened = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    if (opened < 0)
        return open_error(e, path);
    int rc = fstat(opened, &st) != 0 ? io_error(e, "stat", path) : 0;
    if (rc == 0 && !S_ISREG(st.st_mode))
        rc = refuse_kind(e, path, st.st_mode);
    if (rc != 0)
        close(opened);
    else
        *fd = opened;
    return rc;
}

int file_open_stream(const char *path, FILE **out, struct error *e)
{
    int fd, rc = file_open(path, O_RDONLY, &fd, e);
    *out = rc == 0 ? fdopen(fd, "r") : NULL;
    if (rc == 0 && *out == NULL) {
        rc = error_set(e, ERR_MEMORY, "open %s: no memory", path);
        close(fd);
    }
    return rc;
}

/* ---- whole files ---- */

static int read_all(int fd, uint8_t *data, size_t size, const char *path, struct error *e)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_error(e, "read", path);
        if (n == 0)
            return error_set(e, ERR_IO, "read %s: it shrank from %zu to %zu bytes meanwhile", path, size, done);
        done += (size_t)n;
    }
    return 0;
}

static int read_open_file(int fd, const char *path, size_t limit, struct buf **out, struct error *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return io_error(e, "stat", path);
    if ((uint64_t)st.st_size > limit)
        return error_set(e, ERR_RANGE, "read %s: %lld bytes, at most %zu are allowed", path, (long long)st.st_size,
                         limit);
    struct buf *b = buf_new((size_t)st.st_size);
    if (b == NULL)
        return error_set(e, ERR_MEMORY, "read %s: no memory for %lld bytes", path, (long long)st.st_size);
    int rc = read_all(fd, b->data, b->size, path, e);
    if (rc != 0) {
        buf_unref(&b);
        return rc;
    }
    *out = b;
    return 0;
}

int file_read(const char *path, size_t limit, struct buf **out, struct error *e)
{
    *out = NULL;
    int fd, rc = file_open(path, O_RDONLY, &fd, e);
    if (rc != 0)
        return rc;
    rc = read_open_file(fd, path, limit, out, e);
    close(fd);
    return rc;
}

static int write_all(int fd, const uint8_t *data, size_t size, const char *path, struct error *e)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return io_error(e, "write", path);
        done += (size_t)n;
    }
    return 0;
}

/* Opens path and holds its lock; never returns a file that another writer has renamed away while we waited. */
static int open_locked(const char *path, int *out, struct error *e)
{
    for (;;) {
        int fd, rc = file_open(path, O_WRONLY | O_CREAT, &fd, e);
        if (rc != 0)
            return rc;
        struct stat locked, named;
        if (flock(fd, LOCK_EX) != 0 && errno != EINTR) {
            rc = io_error(e, "lock", path);
            close(fd);
            return rc;
        }
        if (fstat(fd, &locked) == 0 && stat(path, &named) == 0 && locked.st_ino == named.st_ino &&
            locked.st_dev == named.st_dev) {
            *out = fd;
            return 0;
        }
        close(fd);
    }
}

static int fill(int fd, const char *path, file_source *next, void *context, struct error *e)
{
    struct file_part part;
    if (ftruncate(fd, 0) != 0)
        return io_error(e, "truncate", path);
    while (next(context, &part)) {
        int rc = write_all(fd, part.data, part.size, path, e);
        if (rc != 0)
            return rc;
    }
    return fsync(fd) == 0 ? 0 : io_error(e, "fsync", path);
}

/* A rename is durable only once its directory is on disk. */
static int sync_parent(const char *path, struct error *e)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int length = slash == NULL ? 0 : (int)(slash - path);
    int rc = slash == path ? path_format(dir, sizeof dir, "/") : path_format(dir, sizeof dir, "%.*s", length, path);
    if (rc != 0)
        return error_set(e, rc, "path too long: %s", path);
    const char *name = dir[0] == '\0' ? "." : dir;
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return io_error(e, "open", name);
    rc = fsync(fd) == 0 ? 0 : io_error(e, "fsync", name);
    close(fd);
    return rc;
}

int file_write_atomic_from(const char *path, file_source *next, void *context, struct error *e)
{
    char temporary[PATH_MAX];
    int fd = -1, rc = path_format(temporary, sizeof temporary, "%s.inprogress", path);
    if (rc != 0)
        return error_set(e, rc, "path too long: %s", path);
    if ((rc = open_locked(temporary, &fd, e)) != 0)
        return rc;
    rc = fill(fd, temporary, next, context, e);
    if (rc == 0 && rename(temporary, path) != 0)
        rc = io_error(e, "rename to", path);
    if (rc != 0)
        unlink(temporary);
    close(fd); /* only now: the lock has to cover the rename */
    return rc == 0 ? sync_parent(path, e) : rc;
}

struct part_list {
    const struct file_part *parts;
    size_t n;
};

static bool next_of_list(void *context, struct file_part *part)
{
    struct part_list *list = context;
    if (list->n == 0)
        return false;
    *part = *list->parts++;
    list->n--;
    return true;
}

int file_write_atomic(const char *path, const struct file_part *parts, size_t n, struct error *e)
{
    return file_write_atomic_from(path, next_of_list, &(struct part_list){parts, n}, e);
}

/* ---- locks ---- */

/* What the holder wrote, on one line, printable. */
static void read_holder(int fd, char *out, size_t size)
{
    ssize_t n = pread(fd, out, size - 1, 0);
    out[n > 0 ? n : 0] = '\0';
    for (char *p = out; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~')
            *p = p[1] == '\0' ? '\0' : '?';
}

static int write_holder(int fd, const char *path, struct error *e)
{
    char host[64] = "unknown", text[96];
    gethostname(host, sizeof host - 1);
    int length = snprintf(text, sizeof text, "%s:%ld\n", host, (long)getpid());
    if (ftruncate(fd, 0) != 0)
        return io_error(e, "truncate", path);
    return write_all(fd, (const uint8_t *)text, (size_t)length, path, e);
}

int file_lock(const char *path, int *fd, struct error *e)
{
    char holder[96];
    int opened, rc = file_open(path, O_RDWR | O_CREAT, &opened, e);
    if (rc != 0)
        return rc;
    if (flock(opened, LOCK_EX | LOCK_NB) == 0) {
        rc = write_holder(opened, path, e);
    } else if (errno == EWOULDBLOCK) {
        read_holder(opened, holder, sizeof holder);
        rc = error_set(e, ERR_STATE, "%s is held by %s", path, holder[0] ? holder : "another process");
    } else {
        rc = io_error(e, "lock", path);
    }
    if (rc != 0)
        close(opened);
    else
        *fd = opened;
    return rc;
}

/* ---- directories ---- */

static int make_one(const char *path, struct error *e)
{
    struct stat st;
    if (mkdir(path, 0755) == 0)
        return 0;
    if (errno != EEXIST)
        return io_error(e, "mkdir", path);
    if (stat(path, &st) != 0)
        return io_error(e, "stat", path);
    return S_ISDIR(st.st_mode) ? 0 : error_set(e, ERR_IO, "mkdir %s: a file of that name exists", path);
}

int dir_make(const char *path, struct error *e)
{
    char part[PATH_MAX];
    if (path[0] == '\0' || path_format(part, sizeof part, "%s", path) != 0)
        return error_set(e, ERR_RANGE, "path empty or too long: '%.100s'", path);
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        int rc = make_one(part, e);
        if (rc != 0)
            return rc;
        *p = '/';
    }
    return make_one(part, e);
}

int path_format(char *out, size_t n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(out, n, format, args);
    va_end(args);
    return length >= 0 && (size_t)length < n ? 0 : ERR_RANGE;
}
