/* Image sets from foreign bytes: .npy, .npz, IDX and CIFAR, folders, tar archives. Whatever is in the files, loading
 * them ends in an error with a text or in a set that keeps its promises. An input is a byte that names the format and
 * whether a size is asked for, then frames, one for each file. */
#include <stdio.h>
#include <zip.h>
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"
#include "worker/data/dataset.h"

enum format {
    FORMAT_NPY,
    FORMAT_NPZ,
    FORMAT_IDX,
    FORMAT_CIFAR,
    FORMAT_FOLDER,   /* of files whose content has nothing to do with their names */
    FORMAT_TAR,      /* headers repaired: a checksum keeps most damage from getting far */
    FORMAT_ONE_FILE, /* named like nothing that is read: near misses */
    FORMATS
};
enum { MEMORY_BYTES = 1 << 20, SIDE = 8 };

/* ---- checks ---- */

static void check_set(const struct dataset *d)
{
    ASSERT(d->count > 0 && d->images != NULL && d->height - 1 < DATASET_SIDE_MAX && d->width - 1 < DATASET_SIDE_MAX);
    ASSERT((uint64_t)d->count * d->height * d->width * d->channels <= MEMORY_BYTES);
    for (uint32_t i = 0; d->labels && i < d->count; i++)
        ASSERT(d->labels[i] < d->classes);
    for (uint32_t i = 0; d->class_names && i < d->classes; i++)
        ASSERT(d->class_names[i] != NULL);
    (void)dataset_fingerprint(d); /* reads every byte */
}

static void load(const char *path, uint32_t side)
{
    struct dataset_options o = {
        .path = path, .side = side, .channels = side ? 3 : 0, .holdout = 2, .memory_bytes = MEMORY_BYTES};
    for (int split = DATASET_TRAIN; split <= DATASET_TEST; split++) {
        struct dataset d;
        struct error e = {0};
        if (dataset_load(&o, (enum dataset_split)split, &d, &e) == 0)
            check_set(&d);
        else
            ASSERT(e.code != 0 && e.text[0] != '\0' && d.images == NULL && d.labels == NULL);
        dataset_fini(&d);
    }
}

/* Puts the right checksum into every block that begins like a header. */
static void repair_tar(uint8_t *bytes, size_t size)
{
    for (size_t at = 0; at + 512 <= size; at += 512) {
        unsigned sum = 0;
        char text[8];
        if (memcmp(bytes + at + 257, "ustar", 5) != 0)
            continue;
        memset(bytes + at + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
            sum += bytes[at + i];
        snprintf(text, sizeof text, "%06o", sum & 0777777);
        memcpy(bytes + at + 148, text, 7);
    }
}

/* ---- the harness ---- */

static const char *const file_names[FORMATS][3] = {
    [FORMAT_NPY] = {"a.npy"},
    [FORMAT_NPZ] = {"a.npz"},
    [FORMAT_IDX] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
    [FORMAT_CIFAR] = {"train.bin", "test.bin", "fine_label_names.txt"},
    [FORMAT_FOLDER] = {"a.png", "b", "c.webp"},
    [FORMAT_TAR] = {"train-0.tar", "val-0.tar"},
    [FORMAT_ONE_FILE] = {"a.dat"},
};

static void load_files(enum format format, uint32_t side, struct buf *const *frames, size_t n)
{
    bool directory = format != FORMAT_NPY && format != FORMAT_NPZ && format != FORMAT_ONE_FILE;
    char path[512];
    scratch_empty();
    for (size_t i = 0; i < n && i < 3 && file_names[format][i]; i++)
        scratch_put(file_names[format][i], frames[i]->data, frames[i]->size);
    snprintf(path, sizeof path, "%s", scratch_path(directory ? "" : file_names[format][0]));
    load(path, side);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf *frames[FUZZ_FRAMES_MAX] = {NULL};
    size_t n = size > 0 ? fuzz_frames(data + 1, size - 1, frames) : 0;
    enum format format = size > 0 ? (enum format)(data[0] % FORMATS) : FORMAT_NPY;
    for (size_t i = 0; format == FORMAT_TAR && i < n; i++)
        repair_tar(frames[i]->data, frames[i]->size);
    load_files(format, size > 0 && data[0] / FORMATS % 2 ? SIDE : 0, frames, n);
    for (size_t i = 0; i < n; i++)
        buf_unref(&frames[i]);
    return 0;
}

/* ---- seeds ---- */

struct writer {
    uint8_t *out;
    size_t size, room;
};

static void add(struct writer *w, const void *bytes, size_t size)
{
    w->size = fuzz_add_frame(w->out, w->size, w->room, bytes, size);
}

static size_t npy(uint8_t *out, const char *dictionary, size_t values)
{
    size_t length = strlen(dictionary);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (uint8_t)length;
    out[9] = 0;
    memcpy(out + 10, dictionary, length);
    memset(out + 10 + length, 0, values); /* small numbers: labels, too */
    return 10 + length + values;
}

static const char pictures[] = "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 3, 4), }\n";
static const char numbers[] = "{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }\n";

static void seed_npy(struct writer *w)
{
    uint8_t bytes[512];
    add(w, bytes, npy(bytes, pictures, 60));
}

static void seed_npz(struct writer *w)
{
    uint8_t images[512], labels[512], file[4096];
    int code;
    scratch_empty();
    zip_t *z = zip_open(scratch_path("seed.npz"), ZIP_CREATE, &code);
    ASSERT(z != NULL);
    ASSERT(zip_file_add(z, "images.npy", zip_source_buffer(z, images, npy(images, pictures, 60), 0), 0) >= 0);
    ASSERT(zip_file_add(z, "labels.npy", zip_source_buffer(z, labels, npy(labels, numbers, 40), 0), 0) >= 0);
    ASSERT(zip_close(z) == 0);
    add(w, file, scratch_get("seed.npz", file, sizeof file));
}

static void seed_idx(struct writer *w)
{
    static const uint8_t images[16 + 40] = {0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 4, 1, 2, 3};
    static const uint8_t labels[8 + 5] = {0, 0, 8, 1, 0, 0, 0, 5, 1, 0, 2, 1, 0};
    add(w, images, sizeof images);
    add(w, labels, sizeof labels);
}

static void seed_cifar(struct writer *w)
{
    static uint8_t records[2 * 3074];
    add(w, records, sizeof records);
    add(w, records, sizeof records / 2);
    add(w, "one\ntwo\n", 8);
}

static void seed_folder(struct writer *w)
{
    add(w, "P6 1 1 65535\nabcdef", 19);
    add(w, "P5 3 2 255\nabcdef", 17);
    add(w, "P2\n# c\n2 2 9 0 1 2 9 ", 22);
}

static void add_entry(struct writer *w, const char *name, const void *bytes, size_t size)
{
    uint8_t *header = w->out + w->size;
    ASSERT(w->size + 512 + (size + 511) / 512 * 512 <= w->room);
    memset(header, 0, 512 + (size + 511) / 512 * 512);
    snprintf((char *)header, 100, "%s", name);
    snprintf((char *)header + 124, 12, "%011zo", size);
    memcpy(header + 156, "0", 1);
    memcpy(header + 257, "ustar\00000", 8);
    memcpy(header + 512, bytes, size);
    w->size += 512 + (size + 511) / 512 * 512;
}

static void seed_tar(struct writer *w)
{
    for (int i = 0; i < 2; i++) {
        size_t start = w->size;
        w->size += 4; /* the frame's length, below */
        add_entry(w, "a.ppm", "P6 1 1 255\nabc", 14);
        add_entry(w, "a.cls", "3\n", 2);
        add_entry(w, "d/b.pgm", "P2 2 1 9 1 2", 12);
        add_entry(w, "d/b.cls", "0", 1);
        ASSERT(w->size + 1024 <= w->room);
        memset(w->out + w->size, 0, 1024);
        w->size += 1024;
        uint32_t length = (uint32_t)(w->size - start - 4);
        memcpy(w->out + start, &length, 4);
    }
}

static void seed_one_file(struct writer *w)
{
    add(w, "<!doctype html><html>", 21);
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static void (*const seeds[FORMATS])(struct writer *) = {
        [FORMAT_NPY] = seed_npy,          [FORMAT_NPZ] = seed_npz,       [FORMAT_IDX] = seed_idx,
        [FORMAT_CIFAR] = seed_cifar,      [FORMAT_FOLDER] = seed_folder, [FORMAT_TAR] = seed_tar,
        [FORMAT_ONE_FILE] = seed_one_file};
    struct writer w = {.out = out, .size = 1, .room = room};
    if (i >= 2 * FORMATS)
        return 0;
    out[0] = (uint8_t)i;
    seeds[i % FORMATS](&w);
    return w.size;
}
