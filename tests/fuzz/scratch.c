/* A directory and a memfd. */
#include "tests/fuzz/scratch.h"

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "common/error.h"

static char directory[256];

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

static void remove_directory(void)
{
    nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void open_directory(void)
{
    const char *parent = getenv("TMPDIR");
    if (directory[0] != '\0')
        return;
    if (parent == NULL || strlen(parent) > sizeof directory - 32)
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(directory, sizeof directory, "%s/decant-fuzz-XXXXXX", parent);
    ASSERT(mkdtemp(directory) != NULL);
    atexit(remove_directory);
}

const char *scratch_path(const char *name)
{
    static char path[512];
    open_directory();
    snprintf(path, sizeof path, "%s%s%s", directory, name[0] ? "/" : "", name);
    return path;
}

void scratch_put(const char *name, const void *bytes, size_t size)
{
    FILE *f = fopen(scratch_path(name), "wb");
    ASSERT(f != NULL && fwrite(bytes, 1, size, f) == size);
    fclose(f);
}

size_t scratch_get(const char *name, void *out, size_t room)
{
    FILE *f = fopen(scratch_path(name), "rb");
    ASSERT(f != NULL);
    size_t size = fread(out, 1, room, f);
    ASSERT(size < room);
    fclose(f);
    return size;
}

void scratch_empty(void)
{
    DIR *d = opendir(scratch_path(""));
    for (struct dirent *x; d && (x = readdir(d)) != NULL;)
        if (x->d_name[0] != '.')
            unlink(scratch_path(x->d_name));
    if (d)
        closedir(d);
}

const char *scratch_file(const void *bytes, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("decant-fuzz", MFD_CLOEXEC);
        ASSERT(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    ASSERT(ftruncate(fd, 0) == 0 && pwrite(fd, bytes, size, 0) == (ssize_t)size);
    return path;
}
