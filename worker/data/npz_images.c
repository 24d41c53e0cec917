/* libzip's archives belong to one thread at a time: readers take turns. */
#include "worker/data/npz_images.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct archive {
    pthread_mutex_t lock;
    zip_t *zip;
    zip_file_t *entry;
    uint64_t offset;
    struct image_size size;
    char *where;
};

bool npz_images_possible(zip_t *z, uint64_t index)
{
    zip_stat_t st;
    return zip_stat_index(z, index, 0, &st) == 0 && (st.valid & ZIP_STAT_COMP_METHOD) && st.comp_method == ZIP_CM_STORE;
}

static int read_entry(const struct archive *a, uint64_t at, uint8_t *out, size_t size, struct error *e)
{
    if (zip_fseek(a->entry, (zip_int64_t)at, SEEK_SET) != 0)
        return error_set(e, ERR_IO, "%s", zip_error_strerror(zip_file_get_error(a->entry)));
    while (size > 0) {
        zip_int64_t got = zip_fread(a->entry, out, size);
        if (got < 0)
            return error_set(e, ERR_IO, "%s", zip_error_strerror(zip_file_get_error(a->entry)));
        if (got == 0)
            return error_set(e, ERR_FORMAT, "the archive ends before it");
        out += got;
        size -= (size_t)got;
    }
    return 0;
}

static int archive_read(void *state, uint32_t place, struct image *out, struct error *e)
{
    struct archive *a = state;
    int rc = image_claim(out, a->size.height, a->size.width, a->size.channels, e);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&a->lock);
    rc = read_entry(a, a->offset + place * image_bytes(&a->size), out->pixels, image_bytes(&a->size), e);
    pthread_mutex_unlock(&a->lock);
    return rc;
}

static void archive_name(const void *state, uint32_t place, char out[IMAGE_SOURCE_NAME_MAX])
{
    const struct archive *a = state;
    snprintf(out, IMAGE_SOURCE_NAME_MAX, "%.350s: image %u", a->where, place);
}

static void archive_free(void *state)
{
    struct archive *a = state;
    if (a->entry)
        zip_fclose(a->entry);
    zip_discard(a->zip);
    pthread_mutex_destroy(&a->lock);
    free(a->where);
    free(a);
}

int npz_images_new(zip_t *z, const struct npz_images *images, struct image_access *out, struct error *e)
{
    struct archive *a = calloc(1, sizeof *a);
    if (a == NULL) {
        zip_discard(z);
        return error_set(e, ERR_MEMORY, "%s: no memory to read it again", images->where);
    }
    *out = (struct image_access){a, archive_read, archive_name, archive_free};
    pthread_mutex_init(&a->lock, NULL);
    a->zip = z;
    a->offset = images->offset;
    a->size = images->size;
    a->where = strdup(images->where);
    a->entry = zip_fopen_index(z, images->index, 0);
    if (a->where && a->entry)
        return 0;
    int rc = a->where ? error_set(e, ERR_IO, "%s: %s", images->where, zip_strerror(z))
                      : error_set(e, ERR_MEMORY, "%s: no memory to read it again", images->where);
    image_access_free(out);
    return rc;
}
