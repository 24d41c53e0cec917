/* A set has as many parts as data.path has paths: few, so that they are looked through in order. */
#include "worker/data/image_source.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

void image_access_free(struct image_access *a)
{
    if (a->state)
        a->free(a->state);
    *a = (struct image_access){0};
}

int image_source_new(uint32_t room, struct image_source **out)
{
    struct image_source *s = calloc(1, sizeof *s);
    *out = s;
    if (s == NULL)
        return ERR_MEMORY;
    s->parts = calloc(1, sizeof *s->parts);
    if (s->parts) {
        s->count = 1;
        s->parts->places = calloc(room, sizeof *s->parts->places);
        s->parts->hashes = calloc(room, sizeof *s->parts->hashes);
    }
    if (s->parts && s->parts->places && s->parts->hashes)
        return 0;
    image_source_free(out);
    return ERR_MEMORY;
}

void image_source_free(struct image_source **source)
{
    struct image_source *s = *source;
    *source = NULL;
    if (s == NULL)
        return;
    for (uint32_t p = 0; p < s->count; p++) {
        image_access_free(&s->parts[p].access);
        free(s->parts[p].places);
        free(s->parts[p].hashes);
    }
    free(s->parts);
    free(s);
}

int image_source_join(struct image_source **into, struct image_source **from)
{
    if (*into == NULL) {
        *into = *from;
        *from = NULL;
        return 0;
    }
    struct image_source *a = *into, *b = *from;
    struct image_part *parts = realloc(a->parts, ((size_t)a->count + b->count) * sizeof *parts);
    if (parts == NULL)
        return ERR_MEMORY;
    a->parts = parts;
    memcpy(parts + a->count, b->parts, b->count * sizeof *parts);
    a->count += b->count;
    b->count = 0;
    image_source_free(from);
    return 0;
}

uint64_t image_source_hash(const uint8_t *pixels, const struct image_size *size)
{
    return XXH64(pixels, image_bytes(size), 0);
}

static const struct image_part *part_of(const struct image_source *s, uint32_t *i)
{
    const struct image_part *p = s->parts;
    while (*i >= p->count) {
        *i -= p->count;
        p++;
        ASSERT(p < s->parts + s->count);
    }
    return p;
}

static int lost(const struct image_part *p, uint32_t place, const struct error *why, struct error *e)
{
    char name[IMAGE_SOURCE_NAME_MAX];
    p->access.name(p->access.state, place, name);
    return error_set(e, why->code, "%s: %.200s; it could be read when this process began: put it back", name,
                     why->text);
}

static int changed(const struct image_part *p, uint32_t place, struct error *e)
{
    char name[IMAGE_SOURCE_NAME_MAX];
    p->access.name(p->access.state, place, name);
    return error_set(e, ERR_FORMAT,
                     "%s: its pixels are not those that it had when this process began; put the old file back, or "
                     "begin another run",
                     name);
}

int image_source_read(const struct image_source *s, uint32_t i, uint8_t *out, struct error *e)
{
    const struct image_part *p = part_of(s, &i);
    struct image image = {0};
    struct error why = {0};
    int rc = p->access.read(p->access.state, p->places[i], &image, &why);
    if (rc == 0 && image_fit(image.pixels, &image.size, out, &p->size, p->ground) != 0)
        rc = error_set(&why, ERR_MEMORY, "no memory to resize it");
    image_fini(&image);
    if (rc != 0)
        return lost(p, p->places[i], &why, e);
    return image_source_hash(out, &p->size) == p->hashes[i] ? 0 : changed(p, p->places[i], e);
}
