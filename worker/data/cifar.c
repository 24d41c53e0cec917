/* CIFAR-10 and CIFAR-100 as their authors publish them ("binary version"): a directory with
 *     data_batch_1.bin .. data_batch_5.bin, test_batch.bin, batches.meta.txt              CIFAR-10
 *     train.bin, test.bin, fine_label_names.txt                                           CIFAR-100
 * A record is the label (CIFAR-10: one byte; CIFAR-100: the coarse label, then the fine one, which is taken), then 3072
 * bytes: 32 rows of 32 red values, the same of green, the same of blue. A file is records and nothing else. The text
 * files name a class a line; without them classes have no names. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "worker/data/raw_images.h"
#include "worker/data/reader.h"

enum {
    CIFAR_SIDE = 32,
    CIFAR_PLANE = CIFAR_SIDE * CIFAR_SIDE,
    CIFAR_IMAGE = 3 * CIFAR_PLANE,
    CIFAR_FILES_MAX = 5,
    CIFAR_NAMES_BYTES_MAX = 1 << 16, /* of the list of class names: hundred short words */
};

struct variant {
    const char *train[CIFAR_FILES_MAX + 1], *test[2], *names; /* lists end with NULL */
    uint32_t label_bytes, classes;
};
static const struct variant variants[] = {
    {{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", NULL},
     {"test_batch.bin", NULL},
     "batches.meta.txt",
     1,
     10},
    {{"train.bin", NULL}, {"test.bin", NULL}, "fine_label_names.txt", 2, 100},
};

struct cifar {
    const char *path;
    const struct variant *variant;
    const char *const *names; /* of the files that follow the open one */
    char name[DATASET_PATH_MAX];
    FILE *file;
    uint64_t left; /* records in the open file */
};

static bool exists(const char *path, const char *name)
{
    char full[DATASET_PATH_MAX];
    return path_format(full, sizeof full, "%s/%s", path, name) == 0 && access(full, F_OK) == 0;
}

static const struct variant *variant_of(const char *path)
{
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        if (exists(path, variants[i].train[0]) || exists(path, variants[i].test[0]))
            return &variants[i];
    return NULL;
}

static bool recognises(const char *path)
{
    return variant_of(path) != NULL;
}

static bool has_test(const char *path)
{
    const struct variant *v = variant_of(path);
    return v && exists(path, v->test[0]);
}

static uint64_t record_bytes(const struct variant *v)
{
    return v->label_bytes + CIFAR_IMAGE;
}

/* Records in a file; 0 with an error. */
static uint64_t records_of(const struct cifar *c, const char *name, struct error *e)
{
    struct stat st;
    char full[DATASET_PATH_MAX];
    if (path_format(full, sizeof full, "%s/%s", c->path, name) != 0 || stat(full, &st) != 0) {
        error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s/%s: %s", c->path, name, strerror(errno));
        return 0;
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0 || (uint64_t)st.st_size % record_bytes(c->variant) != 0) {
        error_set(e, ERR_FORMAT, "%s: %lld bytes are no whole number of %llu-byte records; fetch it again", full,
                  (long long)st.st_size, (unsigned long long)record_bytes(c->variant));
        return 0;
    }
    return (uint64_t)st.st_size / record_bytes(c->variant);
}

static int open_next(struct cifar *c, struct error *e)
{
    const char *name = *c->names++;
    if (c->file)
        fclose(c->file);
    c->file = NULL;
    c->left = records_of(c, name, e);
    if (c->left == 0)
        return e->code;
    path_format(c->name, sizeof c->name, "%s/%s", c->path, name);
    return file_open_stream(c->name, &c->file, e);
}

static int next_image(void *arg, uint8_t *pixels, int64_t *label, struct error *e)
{
    struct cifar *c = arg;
    uint8_t record[2 + CIFAR_IMAGE];
    int rc = c->left == 0 ? open_next(c, e) : 0;
    if (rc != 0)
        return rc;
    if (fread(record, 1, record_bytes(c->variant), c->file) != record_bytes(c->variant))
        return error_set(e, ERR_IO, "%s: it shrank while it was read", c->name);
    c->left--;
    *label = record[c->variant->label_bytes - 1];
    if (*label >= c->variant->classes)
        return error_set(e, ERR_FORMAT, "%s: label %d, expected 0..%u; fetch it again", c->name, (int)*label,
                         c->variant->classes - 1);
    const uint8_t *planes = record + c->variant->label_bytes;
    for (uint32_t i = 0; i < CIFAR_PLANE; i++)
        for (uint32_t k = 0; k < 3; k++)
            pixels[3 * i + k] = planes[k * CIFAR_PLANE + i];
    return 0;
}

/* One name a line; anything but exactly `classes` of them leaves the classes without names. */
static void read_names(const struct cifar *c, struct dataset *d)
{
    char full[DATASET_PATH_MAX];
    struct buf *b = NULL;
    char **names = calloc(c->variant->classes + 1, sizeof *names);
    uint32_t n = 0;
    if (path_format(full, sizeof full, "%s/%s", c->path, c->variant->names) == 0 &&
        file_read(full, CIFAR_NAMES_BYTES_MAX, &b, NULL) == 0) {
        const char *p = (const char *)b->data, *end = p + b->size;
        while (names && p < end && n < c->variant->classes) {
            const char *stop = memchr(p, '\n', (size_t)(end - p));
            size_t length = (size_t)((stop ? stop : end) - p);
            if (length > 0)
                names[n++] = strndup(p, length);
            p += length + 1;
        }
        buf_unref(&b);
    }
    if (n == c->variant->classes) {
        d->class_names = names;
        d->classes = n;
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

/* The files' records are read again where they are. */
static int lend(const struct cifar *c, const char *const *names, struct image_sink *sink, struct error *e)
{
    const struct raw_layout layout = {
        .size = {CIFAR_SIDE, CIFAR_SIDE, 3}, .label_bytes = c->variant->label_bytes, .planes = true};
    struct image_access access;
    char full[DATASET_PATH_MAX];
    int rc = raw_images_new(&layout, &access);
    if (rc != 0)
        return error_set(e, rc, "%s: no memory to read it again", c->path);
    for (; rc == 0 && *names; names++) {
        uint64_t records = records_of(c, *names, e);
        path_format(full, sizeof full, "%s/%s", c->path, *names);
        rc = records == 0 ? e->code : raw_images_add(&access, full, 0, records, e);
    }
    if (rc == 0)
        image_sink_lend(sink, &access);
    image_access_free(&access);
    return rc;
}

static int read_split(const char *path, struct image_sink *sink, struct error *e)
{
    struct cifar c = {.path = path, .variant = variant_of(path)};
    if (c.variant == NULL)
        return error_set(e, ERR_NOT_FOUND, "%s: the CIFAR files are gone", path);
    const char *const *names = sink->test && !sink->may_hold_out ? c.variant->test : c.variant->train;
    c.names = names;
    struct image_sink_stream s = {
        .where = path,
        .size = {CIFAR_SIDE, CIFAR_SIDE, 3},
        .labelled = true,
        .next = next_image,
        .arg = &c,
    };
    for (const char *const *name = c.names; *name; name++) {
        uint64_t records = records_of(&c, *name, e);
        if (records == 0)
            return e->code;
        s.count += records;
    }
    bool whole;
    int rc = image_sink_from_stream(sink, &s, &whole, e);
    if (c.file)
        fclose(c.file);
    if (rc == 0)
        read_names(&c, sink->out);
    return rc == 0 && sink->options->on_demand ? lend(&c, names, sink, e) : rc;
}

const struct dataset_reader cifar_reader = {"CIFAR", recognises, has_test, read_split};
