/* Two streams, and a look at the first one's other end. */
#include "cli/launch_log.h"

#include <poll.h>
#include <sys/stat.h>
#include "common/files.h"

static bool same_file(FILE *a, FILE *b)
{
    struct stat x, y;
    return fstat(fileno(a), &x) == 0 && fstat(fileno(b), &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

void launch_log_open(struct launch_log *l, FILE *out, const char *directory)
{
    char path[1400];
    l->out = out;
    l->file = path_format(path, sizeof path, "%s/launcher.log", directory) == 0 ? fopen(path, "ae") : NULL;
    if (l->file && same_file(l->file, out))
        launch_log_close(l);
}

void launch_log_close(struct launch_log *l)
{
    if (l->file)
        fclose(l->file);
    l->file = NULL;
}

void launch_log_say(struct launch_log *l, const char *text)
{
    fprintf(l->out, "%s\n", text);
    fflush(l->out);
    if (!l->file)
        return;
    fprintf(l->file, "%s\n", text);
    fflush(l->file);
}

bool launch_log_unread(const struct launch_log *l)
{
    struct pollfd p = {.fd = fileno(l->out)};
    struct stat st;
    if (fstat(p.fd, &st) != 0 || (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode)))
        return false;
    return poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) != 0;
}
