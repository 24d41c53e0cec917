/* Reads the last few KiB and parses the lines that lie wholly in them. */
#include "cli/metrics_tail.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/files.h"

enum { TAIL_BYTES = 16384 }; /* some 40 lines: more than lie between two lines of the same kind */

static void take_line(const char *line, size_t length, struct run_figures *out)
{
    const char *name;
    json_t *value, *object = json_loadb(line, length, 0, NULL);
    json_object_foreach(object, name, value)
    {
        if (json_is_integer(value))
            run_figures_set(out, name, "%lld", (long long)json_integer_value(value));
        else if (json_is_real(value))
            run_figures_set(out, name, "%.9g", json_real_value(value));
    }
    json_decref(object);
}

static void take_lines(const char *text, size_t size, bool from_start, struct run_figures *out)
{
    const char *end = text + size, *line = text;
    if (!from_start) { /* the first line may have lost its head */
        line = memchr(text, '\n', size);
        line = line ? line + 1 : end;
    }
    for (const char *stop; line < end && (stop = memchr(line, '\n', (size_t)(end - line))) != NULL; line = stop + 1)
        take_line(line, (size_t)(stop - line), out);
}

int metrics_tail_read(const char *path, struct run_figures *out, double *age_s, struct error *e)
{
    char text[TAIL_BYTES];
    struct stat st;
    out->count = 0;
    int fd, rc = file_open(path, O_RDONLY, &fd, e);
    if (rc != 0)
        return rc;
    ssize_t size = fstat(fd, &st);
    off_t from = size == 0 && st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0;
    if (size == 0)
        size = pread(fd, text, sizeof text, from);
    int reason = errno;
    close(fd);
    if (size < 0)
        return error_set(e, ERR_IO, "%s: %s", path, strerror(reason));
    take_lines(text, (size_t)size, from == 0, out);
    *age_s = unix_time() - (double)st.st_mtim.tv_sec - 1e-9 * (double)st.st_mtim.tv_nsec;
    if (out->count == 0 && memchr(text, '\n', (size_t)size) != NULL)
        return error_set(e, ERR_FORMAT, "%s: damaged, no line of it has a figure", path);
    return 0;
}
