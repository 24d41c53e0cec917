/* Opens each such file for its first bytes: what a name does not tell is found out or, for text beside the images, not
 * looked for. */
#include "worker/data/image_unread.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "worker/data/image_file.h"

/* Of the last dot, in small letters; "" when there is none. */
static void ending_of(const char *name, char out[UNREAD_ENDING_MAX])
{
    const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash : name, '.');
    snprintf(out, UNREAD_ENDING_MAX, "%s", dot ? dot : "");
    for (char *p = out; *p; p++)
        *p = (char)tolower((unsigned char)*p);
}

/* O_NONBLOCK: the file may have become a pipe since it was looked at. */
static const char *format_of_file(const char *path, bool *readable)
{
    uint8_t start[IMAGE_MAGIC_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : read(fd, start, sizeof start);
    if (fd >= 0)
        close(fd);
    *readable = false;
    return got > 0 ? image_format_of(start, (size_t)got, readable) : NULL;
}

static void count(struct image_unread *u, const char *relative, const char *format, bool readable)
{
    char ending[UNREAD_ENDING_MAX];
    uint32_t i = 0;
    ending_of(relative, ending);
    while (i < u->count && (strcmp(u->kinds[i].ending, ending) != 0 || u->kinds[i].format != format))
        i++;
    if (i == UNREAD_KINDS_MAX)
        i--;
    if (i == u->count) {
        u->count++;
        memcpy(u->kinds[i].ending, ending, sizeof ending);
        snprintf(u->kinds[i].first, UNREAD_FIRST_MAX, "%s", relative);
        u->kinds[i].format = format;
        u->kinds[i].readable = readable;
    }
    u->kinds[i].files++;
}

bool image_unread_look(struct image_unread *u, const char *full, const char *relative)
{
    enum image_name name = image_name_kind(relative);
    bool readable;
    if (name == IMAGE_NAME_TEXT)
        return false;
    const char *format = format_of_file(full, &readable);
    if (name == IMAGE_NAME_UNREAD && readable && strcmp(format, "TIFF") != 0) /* a raw file is one, with a thumbnail */
        return true;
    if (name == IMAGE_NAME_UNREAD)
        count(u, relative, NULL, false);
    else if (format && strcmp(format, "HTML") != 0 && strcmp(format, "netpbm") != 0) /* those begin like many texts */
        count(u, relative, format, readable);
    return false;
}

/* "12 files named .webp are not read", "1 file without an ending holds a PNG image". */
static void describe(const struct image_unread *u, uint32_t i, char *out, size_t size)
{
    const char *ending = u->kinds[i].ending, *format = u->kinds[i].format;
    unsigned long long n = u->kinds[i].files;
    int used = snprintf(out, size, "%llu file%s %s%s ", n, n == 1 ? "" : "s", *ending ? "named " : "without an ending",
                        ending);
    if (!format)
        snprintf(out + used, size - (size_t)used, "%s not read", n == 1 ? "is" : "are");
    else
        snprintf(out + used, size - (size_t)used, "%s of format %s", n == 1 ? "is" : "are", format);
}

void image_unread_report(const struct image_unread *u, const char *root, struct image_sink *sink)
{
    for (uint32_t i = 0; i < u->count; i++) {
        char what[120];
        describe(u, i, what, sizeof what);
        image_sink_problem(sink, "%.200s: %s (%s%s); %s", root, what, u->kinds[i].files == 1 ? "" : "the first is ",
                           u->kinds[i].first,
                           u->kinds[i].readable ? "name them accordingly to have them read" : "convert to PNG or JPEG");
        image_sink_leave_out(sink, u->kinds[i].files);
    }
}
