/* `whole` is where the next line belongs. The file is cut there before a line is written if anything lies behind. */
#include "server/shell/metrics_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include "common/files.h"
#include "common/log.h"

enum { SCAN_BYTES = 4096, PATH_BYTES = 1280 };

/* Bytes up to and with the last newline; -1 with errno. */
static off_t whole_lines(int fd, off_t size)
{
    char block[SCAN_BYTES];
    while (size > 0) {
        off_t from = size > SCAN_BYTES ? size - SCAN_BYTES : 0;
        ssize_t n = pread(fd, block, (size_t)(size - from), from);
        if (n != size - from)
            return -1;
        const char *newline = memrchr(block, '\n', (size_t)n);
        if (newline)
            return from + (newline - block) + 1;
        size = from;
    }
    return 0;
}

static int find_end(struct metrics_file *f, const char *path, struct error *e)
{
    struct stat st;
    f->whole = fstat(f->fd, &st) == 0 ? whole_lines(f->fd, st.st_size) : -1;
    if (f->whole < 0)
        return error_set(e, ERR_IO, "read %s: %s", path, strerror(errno));
    return 0;
}

int metrics_file_open(struct metrics_file *f, const char *out, enum server server, bool fresh, struct error *e)
{
    char path[PATH_BYTES];
    *f = METRICS_FILE_CLOSED;
    if (path_format(path, sizeof path, "%s/metrics-%s.jsonl", out, server_name(server)) != 0)
        return error_set(e, ERR_RANGE, "run.out = %s: the path is too long", out);
    int rc = file_open(path, O_RDWR | O_CREAT | O_APPEND | (fresh ? O_TRUNC : 0), &f->fd, e);
    if (rc == 0)
        rc = find_end(f, path, e);
    if (rc != 0)
        metrics_file_close(f);
    return rc;
}

/* 0 or an errno. */
static int write_line(struct metrics_file *f, const char *line)
{
    const struct iovec parts[] = {{(void *)line, strlen(line)}, {(void *)"\n", 1}};
    struct stat st;
    size_t size = parts[0].iov_len + 1;
    if (fstat(f->fd, &st) != 0 || (st.st_size > f->whole && ftruncate(f->fd, f->whole) != 0))
        return errno;
    ssize_t n = writev(f->fd, parts, 2);
    if (n == (ssize_t)size) {
        f->whole = st.st_size < f->whole ? st.st_size + n : f->whole + n; /* somebody may have cut it */
        return 0;
    }
    int reason = n < 0 ? errno : ENOSPC; /* a short write; the next one would say why */
    if (n > 0 && ftruncate(f->fd, f->whole) != 0)
        return errno; /* before the next line, then */
    return reason;
}

void metrics_file_append(struct metrics_file *f, const char *line)
{
    if (f->fd < 0)
        return;
    int reason = line ? write_line(f, line) : ENOMEM;
    f->lost += reason != 0;
    if (reason != 0 && !f->failing)
        log_error("event=metrics_not_written cause=\"%s\" hint=\"lines are left out until it can be written again\"",
                  strerror(reason));
    if (reason == 0 && f->failing)
        log_info("event=metrics_written_again lost=%" PRIu64, f->lost);
    f->failing = reason != 0;
}

void metrics_file_close(struct metrics_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}
