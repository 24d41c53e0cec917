/* One buffer of a line's greatest length; what it holds after its last newline is read again at the next look. */
#include "cli/dashboard_lines.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where to go on in the file that lies there now. */
static void place(struct dashboard_lines *l, const struct stat *st, off_t from_end)
{
    bool first = l->inode == 0;
    bool same = l->device == (uint64_t)st->st_dev && l->inode == (uint64_t)st->st_ino && st->st_size >= l->offset;
    if (same)
        return;
    l->restarts += !first;
    l->offset = first && from_end > 0 && st->st_size > from_end ? st->st_size - from_end : 0;
    l->device = (uint64_t)st->st_dev;
    l->inode = (uint64_t)st->st_ino;
}

/* The whole lines in text; returns the bytes that they take. */
static size_t hand_out(const char *text, size_t size, size_t *lines,
                       void (*take)(void *arg, const char *line, size_t length), void *arg)
{
    size_t begin = 0;
    for (const char *stop; (stop = memchr(text + begin, '\n', size - begin)) != NULL; (*lines)++) {
        size_t end = (size_t)(stop - text);
        take(arg, text + begin, end - begin);
        begin = end + 1;
    }
    return begin;
}

size_t dashboard_lines_read(struct dashboard_lines *l, const char *path, off_t from_end,
                            void (*take)(void *arg, const char *line, size_t length), void *arg)
{
    char text[LINES_BYTES];
    struct stat st;
    size_t lines = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return 0;
    }
    place(l, &st, from_end);
    for (off_t stop = l->offset + LINES_LOOK_BYTES; l->offset < stop;) {
        ssize_t got = pread(fd, text, sizeof text, l->offset);
        if (got <= 0)
            break;
        size_t used = hand_out(text, (size_t)got, &lines, take, arg);
        if (used == 0 && got == sizeof text)
            used = sizeof text; /* no line of ours */
        if (used == 0)
            break;
        l->offset += (off_t)used;
    }
    close(fd);
    return lines;
}
