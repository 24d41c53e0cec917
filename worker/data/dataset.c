/* What there is to know of a loaded set; dataset_load.c loads it. */
#include "worker/data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>
#include "proto/provenance.h"
#include "worker/data/image_source.h"

struct dataset_options dataset_options_of(const struct run_config *c)
{
    return (struct dataset_options){
        .path = c->data.path,
        .limit = (uint32_t)c->data.limit,
        .side = (uint32_t)c->data.side,
        .channels = (uint32_t)c->data.channels,
        .holdout = (uint32_t)c->data.holdout,
        .memory_bytes = (uint64_t)(c->data.memory * (1 << 30)),
        .background = c->data.background,
        .cached = c->data.cache == DATA_CACHE_FILE,
        .on_demand = c->data.cache == DATA_CACHE_NONE,
        .cache_directory = c->data.cache_directory,
    };
}

void dataset_fini(struct dataset *d)
{
    for (char **name = d->class_names; name && *name; name++)
        free(*name);
    for (uint32_t i = 0; d->names && i < d->count; i++)
        free(d->names[i]);
    for (uint32_t i = 0; i < DATASET_PROBLEMS_MAX; i++)
        free(d->problems[i]);
    for (uint32_t i = 0; i < DATASET_NOTES_MAX; i++)
        free(d->notes[i]);
    free(d->class_names);
    free(d->names);
    if (d->map)
        munmap(d->map, d->map_bytes);
    else
        free(d->images);
    image_source_free(&d->source);
    free(d->labels);
    memset(d, 0, sizeof *d);
}

size_t dataset_image_bytes(const struct dataset *d)
{
    return (size_t)d->height * d->width * d->channels;
}

int dataset_image(const struct dataset *d, uint32_t i, uint8_t *scratch, const uint8_t **out, struct error *e)
{
    ASSERT(i < d->count);
    *out = d->source ? scratch : d->images + i * dataset_image_bytes(d);
    return d->source ? image_source_read(d->source, i, scratch, e) : 0;
}

void dataset_shape(const struct dataset *d, uint32_t shape[DATASET_SHAPE])
{
    const uint32_t own[DATASET_SHAPE] = {d->count, d->height, d->width, d->channels, d->classes, d->labels != NULL};
    memcpy(shape, own, sizeof own);
}

uint64_t dataset_fingerprint(const struct dataset *d)
{
    uint32_t shape[DATASET_SHAPE];
    if (d->source)
        return d->fingerprint;
    dataset_shape(d, shape);
    XXH64_state_t *state = XXH64_createState();
    ASSERT(state != NULL);
    XXH64_reset(state, 0);
    XXH64_update(state, shape, sizeof shape);
    XXH64_update(state, d->images, (size_t)d->count * d->height * d->width * d->channels);
    if (d->labels)
        XXH64_update(state, d->labels, d->count * sizeof *d->labels);
    uint64_t hash = XXH64_digest(state);
    XXH64_freeState(state);
    return fingerprint_of(hash);
}

struct channel_sums {
    uint64_t n, sum, squares;
};

static void moments_of(const struct channel_sums *s, double *mean, double *deviation)
{
    *mean = s->n ? (double)s->sum / (double)s->n / 255 : 0;
    *deviation = s->n ? sqrt(fmax(0, (double)s->squares / (double)s->n / (255.0 * 255.0) - *mean * *mean)) : 0;
}

static void add_pixels(struct channel_sums *channel, uint32_t channels, const uint8_t *x, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++)
        for (uint32_t c = 0; c < channels; c++, x++) {
            channel[c].sum += *x;
            channel[c].squares += (uint32_t)*x * *x;
        }
}

int dataset_measure(const struct dataset *d, struct dataset_moments *out, struct error *e)
{
    struct channel_sums all = {0}, channel[DATASET_CHANNELS_MAX] = {0};
    size_t image_pixels = (size_t)d->height * d->width;
    uint64_t pixels = (uint64_t)d->count * image_pixels;
    uint8_t *scratch = malloc(dataset_image_bytes(d) + 1);
    const uint8_t *image;
    int rc = scratch ? 0 : error_set(e, ERR_MEMORY, "no memory for an image");
    ASSERT(d->channels <= DATASET_CHANNELS_MAX);
    for (uint32_t i = 0; rc == 0 && i < d->count; i++)
        if ((rc = dataset_image(d, i, scratch, &image, e)) == 0)
            add_pixels(channel, d->channels, image, image_pixels);
    free(scratch);
    if (rc != 0)
        return rc;
    *out = (struct dataset_moments){0};
    for (uint32_t c = 0; c < d->channels; c++) {
        channel[c].n = pixels;
        all.n += pixels;
        all.sum += channel[c].sum;
        all.squares += channel[c].squares;
        moments_of(&channel[c], &out->channel_mean[c], &out->channel_deviation[c]);
    }
    moments_of(&all, &out->mean, &out->deviation);
    return 0;
}
