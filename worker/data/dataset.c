/* What there is to know of a loaded set; dataset_load.c loads it. */
#include "worker/data/dataset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>
#include "proto/provenance.h"

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
    free(d->labels);
    memset(d, 0, sizeof *d);
}

uint64_t dataset_fingerprint(const struct dataset *d)
{
    const uint32_t shape[] = {d->count, d->height, d->width, d->channels, d->classes, d->labels != NULL};
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

void dataset_measure(const struct dataset *d, struct dataset_moments *out)
{
    struct channel_sums all = {0}, channel[DATASET_CHANNELS_MAX] = {0};
    uint64_t pixels = (uint64_t)d->count * d->height * d->width;
    const uint8_t *x = d->images;
    ASSERT(d->channels <= DATASET_CHANNELS_MAX);
    for (uint64_t i = 0; i < pixels; i++)
        for (uint32_t c = 0; c < d->channels; c++, x++) {
            channel[c].sum += *x;
            channel[c].squares += (uint32_t)*x * *x;
        }
    *out = (struct dataset_moments){0};
    for (uint32_t c = 0; c < d->channels; c++) {
        channel[c].n = pixels;
        all.n += pixels;
        all.sum += channel[c].sum;
        all.squares += channel[c].squares;
        moments_of(&channel[c], &out->channel_mean[c], &out->channel_deviation[c]);
    }
    moments_of(&all, &out->mean, &out->deviation);
}
