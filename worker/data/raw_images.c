/* pread: threads share the descriptors without sharing a position. */
#include "worker/data/raw_images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/files.h"

struct raw_file {
    int fd;
    char *path;
    uint64_t offset, count;
};

struct raw_images {
    struct raw_layout layout;
    struct raw_file *files;
    uint32_t count;
};

static uint64_t stride_of(const struct raw_layout *l)
{
    return l->label_bytes + image_bytes(&l->size);
}

/* The file that has image *place, which becomes its number there. */
static const struct raw_file *file_of(const struct raw_images *r, uint32_t *place)
{
    const struct raw_file *f = r->files;
    while (*place >= f->count) {
        *place -= (uint32_t)f->count;
        f++;
        ASSERT(f < r->files + r->count);
    }
    return f;
}

static int read_exactly(const struct raw_file *f, uint64_t at, uint8_t *out, size_t size, struct error *e)
{
    while (size > 0) {
        ssize_t got = pread(f->fd, out, size, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(e, ERR_IO, "%s", strerror(errno));
        if (got == 0)
            return error_set(e, ERR_FORMAT, "the file ends before it");
        out += got;
        at += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

/* (C,H,W) to (H,W,C). */
static int interleave(struct image *image, struct error *e)
{
    size_t bytes = image_bytes(&image->size), plane = bytes / image->size.channels;
    uint8_t *planes = malloc(bytes);
    if (planes == NULL)
        return error_set(e, ERR_MEMORY, "no memory for it");
    memcpy(planes, image->pixels, bytes);
    for (size_t i = 0; i < plane; i++)
        for (uint32_t c = 0; c < image->size.channels; c++)
            image->pixels[i * image->size.channels + c] = planes[c * plane + i];
    free(planes);
    return 0;
}

static int raw_read(void *state, uint32_t place, struct image *out, struct error *e)
{
    const struct raw_images *r = state;
    const struct raw_layout *l = &r->layout;
    const struct raw_file *f = file_of(r, &place);
    int rc = image_claim(out, l->size.height, l->size.width, l->size.channels, e);
    if (rc == 0)
        rc = read_exactly(f, f->offset + place * stride_of(l) + l->label_bytes, out->pixels, image_bytes(&l->size), e);
    return rc == 0 && l->planes ? interleave(out, e) : rc;
}

static void raw_name(const void *state, uint32_t place, char out[IMAGE_SOURCE_NAME_MAX])
{
    const struct raw_file *f = file_of(state, &place);
    snprintf(out, IMAGE_SOURCE_NAME_MAX, "%.350s: image %u", f->path, place);
}

static void raw_free(void *state)
{
    struct raw_images *r = state;
    for (uint32_t i = 0; i < r->count; i++) {
        close(r->files[i].fd);
        free(r->files[i].path);
    }
    free(r->files);
    free(r);
}

int raw_images_new(const struct raw_layout *layout, struct image_access *out)
{
    *out = (struct image_access){calloc(1, sizeof(struct raw_images)), raw_read, raw_name, raw_free};
    struct raw_images *r = out->state;
    if (r == NULL)
        return ERR_MEMORY;
    r->layout = *layout;
    return 0;
}

int raw_images_add(struct image_access *a, const char *path, uint64_t offset, uint64_t count, struct error *e)
{
    struct raw_images *r = a->state;
    struct raw_file *files = realloc(r->files, (r->count + 1) * sizeof *files), f = {.offset = offset, .count = count};
    if (files == NULL)
        return error_set(e, ERR_MEMORY, "%s: no memory to read it again", path);
    r->files = files;
    int rc = file_open(path, O_RDONLY, &f.fd, e);
    if (rc != 0)
        return rc;
    f.path = strdup(path);
    if (f.path == NULL) {
        close(f.fd);
        return error_set(e, ERR_MEMORY, "%s: no memory to read it again", path);
    }
    files[r->count++] = f;
    return 0;
}
