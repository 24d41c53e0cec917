/* Finds the reader of a path; the readers and the image sink do the rest. */
#include "worker/data/dataset.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "proto/provenance.h"
#include "worker/data/near_miss.h"
#include "worker/data/reader.h"

enum { CONTRAST_MIN = 16 }; /* values that a set should span: fewer come of a wrong scale, as 12 bits in 16 */

/* The first that recognises a path reads it: a directory of images is what is left of directories. */
static const struct dataset_reader *const readers[] = {&idx_reader, &cifar_reader, &npy_reader,
                                                       &npz_reader, &tar_reader,   &image_folder_reader};

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
    };
}

static const struct dataset_reader *reader_of(const char *path, struct error *e)
{
    char text[NEAR_MISS_MAX];
    if (strlen(path) >= DATASET_PATH_MAX - 64) {
        error_set(e, ERR_RANGE, "data.path is longer than %d bytes", DATASET_PATH_MAX - 65);
        return NULL;
    }
    if (access(path, R_OK) != 0) {
        error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s; set data.path", path, strerror(errno));
        return NULL;
    }
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++)
        if (readers[i]->recognises(path))
            return readers[i];
    if (near_miss_explain(path, text))
        error_set(e, ERR_FORMAT, "%s", text);
    else
        error_set(e, ERR_FORMAT,
                  "%s: no image set; expected a directory of image files, tar shards, IDX or CIFAR files, or a "
                  ".npy or .npz file (docs/DATA.md)",
                  path);
    return NULL;
}

/* auto: black until the images have voted. */
static uint8_t ground_of(enum data_background background)
{
    return background == BACKGROUND_WHITE ? GROUND_WHITE : background == BACKGROUND_GREY ? GROUND_GREY : GROUND_BLACK;
}

struct contrast {
    uint32_t flat, first; /* images of one colour throughout, and the first of them */
    uint8_t low, high;    /* of all values; exact only while they are closer than CONTRAST_MIN */
};

static struct contrast measure_contrast(const struct dataset *d)
{
    size_t image = (size_t)d->height * d->width * d->channels;
    struct contrast c = {.low = 255};
    for (uint32_t i = 0; i < d->count; i++) {
        const uint8_t *x = d->images + i * image;
        size_t same = d->channels; /* a pixel at a time: one colour, not one value */
        while (same < image && x[same] == x[same - d->channels])
            same++;
        if (same == image && c.flat++ == 0)
            c.first = i;
        for (size_t k = 0; c.high - c.low < CONTRAST_MIN && k < image; k++) {
            c.low = x[k] < c.low ? x[k] : c.low;
            c.high = x[k] > c.high ? x[k] : c.high;
        }
    }
    return c;
}

/* What training would not notice, and neither would its user: images with nothing to be seen in them. */
static void judge_contrast(struct image_sink *sink)
{
    const struct dataset *d = sink->out;
    const char *path = sink->options->path;
    struct contrast c = measure_contrast(d);
    if (d->height * d->width == 1)
        return;
    if (c.low == c.high)
        image_sink_problem(sink,
                           "%s: all images are constant: every value of every pixel is %u, and there is nothing to "
                           "learn; if they are drawings on transparency, set data.background",
                           path, c.low);
    else if (c.flat == d->count)
        image_sink_problem(sink, "%s: each image is of one colour throughout; there is nothing to learn but colours",
                           path);
    else if (c.high - c.low < CONTRAST_MIN)
        image_sink_problem(sink,
                           "%.200s: all values lie in %u..%u of 0..255, nearly without contrast; for an array a, save "
                           "numpy.interp(a, (a.min(), a.max()), (0, 255)).astype('uint8')",
                           path, c.low, c.high);
    else if (c.flat > 0)
        image_sink_note(sink, "%u images are of one colour throughout, the first is image %u of the set", c.flat,
                        c.first);
}

int dataset_load(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
{
    char text[NEAR_MISS_MAX];
    struct error local = {0};
    if (e == NULL)
        e = &local;
    memset(out, 0, sizeof *out);
    const struct dataset_reader *reader = reader_of(o->path, e);
    if (reader == NULL)
        return e->code;
    out->format = reader->name;
    struct image_sink sink = {
        .options = o,
        .out = out,
        .test = split == DATASET_TEST,
        .may_hold_out = !reader->has_test(o->path),
        .ground = ground_of(o->background),
    };
    int rc = reader->read(o->path, &sink, e);
    if (rc == ERR_NOT_FOUND && !sink.test && near_miss_explain(o->path, text))
        error_set(e, rc, "%s", text);
    image_sink_close(&sink);
    if (rc == 0)
        judge_contrast(&sink);
    if (rc != 0)
        dataset_fini(out);
    return rc;
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

void dataset_moments(const struct dataset *d, double *mean, double *deviation)
{
    uint64_t n = (uint64_t)d->count * d->height * d->width * d->channels, sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = d->images[i];
        sum += x;
        squares += x * x;
    }
    *mean = n ? (double)sum / (double)n / 255 : 0;
    *deviation = n ? sqrt(fmax(0, (double)squares / (double)n / (255.0 * 255.0) - *mean * *mean)) : 0;
}
