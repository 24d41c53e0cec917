/* Mappings begin at whole pages, sets of images anywhere; see image_store.h. */
#include "worker/data/image_store.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int image_store_map(int fd, uint64_t offset, uint64_t bytes, bool write, struct dataset *d)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), from = offset / page * page;
    size_t size = (size_t)(offset - from + bytes);
    void *map = mmap(NULL, size, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, (off_t)from);
    if (map == MAP_FAILED)
        return ERR_MEMORY;
    d->map = map;
    d->map_bytes = size;
    d->images = (uint8_t *)map + (offset - from);
    return 0;
}

int image_store_take(struct image_store *s, uint64_t bytes, struct dataset *d, struct error *e)
{
    int failed = posix_fallocate(s->fd, (off_t)s->end, (off_t)bytes);
    if (failed != 0)
        return error_set(e, ERR_IO,
                         "%s: %.2f GiB for decoded images: %s; make room, or set data.cache_directory elsewhere",
                         s->path, (double)bytes / (1 << 30), strerror(failed));
    if (image_store_map(s->fd, s->end, bytes, true, d) != 0)
        return error_set(e, ERR_MEMORY, "%s: cannot be mapped: %s", s->path, strerror(errno));
    return 0;
}

void image_store_keep(struct image_store *s, uint64_t bytes)
{
    s->end += bytes;
}
