/* Finds the reader of a path; the readers and the intake do the rest. */
#include "worker/data/dataset.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "proto/provenance.h"
#include "worker/data/reader.h"

/* The first that recognises a path reads it: a directory of images is what is left of directories. */
static const struct dataset_reader *const readers[] = {&idx_reader, &cifar_reader, &npy_reader, &npz_reader,
                                                       &image_folder_reader};

struct dataset_options dataset_options_of(const struct run_config *c)
{
    return (struct dataset_options){
        .path = c->data.path,
        .limit = (uint32_t)c->data.limit,
        .side = (uint32_t)c->data.side,
        .channels = (uint32_t)c->data.channels,
        .holdout = (uint32_t)c->data.holdout,
        .memory_bytes = (uint64_t)(c->data.memory * (1 << 30)),
    };
}

static const struct dataset_reader *reader_of(const char *path, struct error *e)
{
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
    error_set(e, ERR_FORMAT,
              "%s: no image set; expected a directory of PNG or JPEG images, IDX or CIFAR files, or a "
              ".npy or .npz file (docs/DATA.md)",
              path);
    return NULL;
}

int dataset_load(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
{
    struct error local = {0};
    if (e == NULL)
        e = &local;
    memset(out, 0, sizeof *out);
    const struct dataset_reader *reader = reader_of(o->path, e);
    if (reader == NULL)
        return e->code;
    out->format = reader->name;
    struct intake t = {
        .options = o,
        .out = out,
        .test = split == DATASET_TEST,
        .may_hold_out = !reader->has_test(o->path),
    };
    int rc = reader->read(o->path, &t, e);
    intake_close(&t);
    if (rc != 0)
        dataset_fini(out);
    return rc;
}

void dataset_fini(struct dataset *d)
{
    for (char **name = d->class_names; name && *name; name++)
        free(*name);
    for (uint32_t i = 0; i < DATASET_PROBLEMS_MAX; i++)
        free(d->problems[i]);
    free(d->class_names);
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
