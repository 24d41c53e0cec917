/* Finds the reader of a path; the readers and the image sink do the rest. */
#include "worker/data/dataset_one.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "worker/data/near_miss.h"
#include "worker/data/reader.h"

/* The first that recognises a path reads it: a directory of images is what is left of directories. */
static const struct dataset_reader *const readers[] = {&idx_reader, &cifar_reader, &npy_reader,
                                                       &npz_reader, &tar_reader,   &image_folder_reader};

static const struct dataset_reader *reader_of(const char *path, struct error *e)
{
    char text[NEAR_MISS_MAX];
    if (strlen(path) >= DATASET_PATH_MAX - 64) {
        error_set(e, ERR_RANGE, "data.path is longer than %d bytes", DATASET_PATH_MAX - 65);
        return NULL;
    }
    if (access(path, R_OK) != 0) {
        error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
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

/* What training would not notice, and neither would its user: images with nothing to be seen in them. */
static void judge_contrast(struct image_sink *sink)
{
    const struct dataset *d = sink->out;
    const char *path = sink->options->path;
    struct contrast c = sink->contrast;
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

int dataset_load_one(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
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

const char *dataset_format_of(const char *text)
{
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++)
        if (strcmp(readers[i]->name, text) == 0)
            return readers[i]->name;
    return strcmp(text, DATASET_FORMAT_SEVERAL) == 0 ? DATASET_FORMAT_SEVERAL : NULL;
}
