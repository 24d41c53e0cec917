/* Image sets from foreign bytes: PNG, JPEG, WebP, TIFF, netpbm, .npy, .npz, IDX and CIFAR, folders, tar archives. Whatever is in the files, loading them ends in
 * an error with a text or in a set that keeps its promises. An input is a byte that names the format, then frames, one
 * for each file. Checksums keep most damage from getting far in a PNG, so one format has them repaired first. */
#include <dirent.h>
#include <png.h>
#include <stdio.h>
#include <tiffio.h>
#include <jpeglib.h>
#include <stdlib.h>
#include <unistd.h>
#include <webp/encode.h>
#include <zip.h>
#include <zlib.h>
#include "tests/fuzz/fuzz.h"
#include "worker/data/dataset.h"
#include "worker/data/image_file.h"

enum format {
    FORMAT_IMAGE,
    FORMAT_PNG_REPAIRED,
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

/* ---- the scratch directory ---- */

static char directory[64];

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void empty_directory(void)
{
    DIR *d = opendir(directory);
    for (struct dirent *x; d && (x = readdir(d)) != NULL;)
        if (x->d_name[0] != '.')
            unlink(path_of(x->d_name));
    if (d)
        closedir(d);
}

static void remove_directory(void)
{
    empty_directory();
    rmdir(directory);
}

static void open_directory(void)
{
    if (directory[0] != '\0')
        return;
    strcpy(directory, "/tmp/decant-fuzz-XXXXXX");
    ASSERT(mkdtemp(directory) != NULL);
    atexit(remove_directory);
}

static void put(const char *name, const struct buf *b)
{
    FILE *f = fopen(path_of(name), "wb");
    ASSERT(f != NULL && fwrite(b->data, 1, b->size, f) == b->size);
    fclose(f);
}

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

static void decode(const uint8_t *bytes, size_t size)
{
    struct image image;
    struct error e = {0};
    if (image_decode(bytes, size, SIDE, &image, &e) != 0) {
        ASSERT(e.code != 0 && e.text[0] != '\0' && image.pixels == NULL);
        return;
    }
    struct image_size to = {SIDE, SIDE, 3};
    uint8_t out[SIDE * SIDE * 3];
    ASSERT(image_size_is_sane(&image.size) && image_size_is_sane(&image.file));
    ASSERT(image_fit(image.pixels, &image.size, out, &to, 255) == 0);
    image_fini(&image);
}

/* Puts the right checksum behind every chunk that fits into the file. */
static void repair_png(uint8_t *bytes, size_t size)
{
    for (size_t at = 8; at + 12 <= size;) {
        uint32_t length, crc;
        memcpy(&length, bytes + at, 4);
        length = __builtin_bswap32(length);
        if (length > size - at - 12)
            return;
        crc = __builtin_bswap32((uint32_t)crc32(0, bytes + at + 4, length + 4));
        memcpy(bytes + at + 8 + length, &crc, 4);
        at += 12 + length;
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

static void load_files(enum format format, struct buf *const *frames, size_t n)
{
    open_directory();
    empty_directory();
    for (size_t i = 0; i < n && i < 3 && file_names[format][i]; i++)
        put(file_names[format][i], frames[i]);
    char path[512];
    snprintf(path, sizeof path, "%s",
             format == FORMAT_NPY || format == FORMAT_NPZ || format == FORMAT_ONE_FILE ? path_of(file_names[format][0])
                                                                                       : directory);
    load(path, 0);
    load(path, SIDE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf *frames[FUZZ_FRAMES_MAX] = {NULL};
    size_t n = size > 0 ? fuzz_frames(data + 1, size - 1, frames) : 0;
    enum format format = size > 0 ? (enum format)(data[0] % FORMATS) : FORMAT_IMAGE;
    if (format == FORMAT_PNG_REPAIRED && n > 0)
        repair_png(frames[0]->data, frames[0]->size);
    for (size_t i = 0; format == FORMAT_TAR && i < n; i++)
        repair_tar(frames[i]->data, frames[i]->size);
    if (format > FORMAT_PNG_REPAIRED)
        load_files(format, frames, n);
    else if (n > 0)
        decode(frames[0]->data, frames[0]->size);
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
    uint32_t length = (uint32_t)size;
    ASSERT(w->size + 4 + size <= w->room);
    memcpy(w->out + w->size, &length, 4);
    memcpy(w->out + w->size + 4, bytes, size);
    w->size += 4 + size;
}

static void fill(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(i * 7 + i / 13);
}

static void seed_png(struct writer *w, uint32_t format)
{
    uint8_t pixels[13 * 11 * 4], colours[256 * 4], png[4096];
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = 13, .height = 11, .format = format, .colormap_entries = 256};
    png_alloc_size_t size = sizeof png;
    fill(pixels, sizeof pixels);
    fill(colours, sizeof colours);
    ASSERT(png_image_write_to_memory(&image, png, &size, 0, pixels, 0, colours));
    add(w, png, size);
}

static void seed_jpeg(struct writer *w, bool progressive)
{
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    static const uint8_t exif[] = "Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0";
    uint8_t pixels[24 * 3], *out = NULL;
    unsigned long size = 0;
    j.err = jpeg_std_error(&errors);
    jpeg_create_compress(&j);
    jpeg_mem_dest(&j, &out, &size);
    j.image_height = j.image_width = 24;
    j.input_components = 3;
    j.in_color_space = JCS_RGB;
    jpeg_set_defaults(&j);
    if (progressive)
        jpeg_simple_progression(&j);
    jpeg_start_compress(&j, TRUE);
    jpeg_write_marker(&j, JPEG_APP0 + 1, exif, sizeof exif - 1);
    fill(pixels, sizeof pixels);
    for (JSAMPROW row = pixels; j.next_scanline < 24;)
        jpeg_write_scanlines(&j, &row, 1);
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    add(w, out, size);
    free(out);
}

/* Adds the whole file, which must be small. */
static void add_file(struct writer *w, const char *name)
{
    uint8_t bytes[4096];
    FILE *f = fopen(path_of(name), "rb");
    ASSERT(f != NULL);
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    add(w, bytes, size);
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
    uint8_t images[512], labels[512];
    int code;
    open_directory();
    empty_directory();
    zip_t *z = zip_open(path_of("seed.npz"), ZIP_CREATE, &code);
    ASSERT(z != NULL);
    ASSERT(zip_file_add(z, "images.npy", zip_source_buffer(z, images, npy(images, pictures, 60), 0), 0) >= 0);
    ASSERT(zip_file_add(z, "labels.npy", zip_source_buffer(z, labels, npy(labels, numbers, 40), 0), 0) >= 0);
    ASSERT(zip_close(z) == 0);
    add_file(w, "seed.npz");
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

static void seed_netpbm(struct writer *w, uint32_t kind)
{
    static const char *const files[] = {"P1 3 2 1 0 1 0 0 1\n", "P2\n# c\n2 2 9 0 1 2 9 ", "P3 1 1 255 1 2 3",
                                        "P4 9 2\nabcd",         "P5 3 2 255\nabcdef",      "P6 1 1 65535\nabcdef"};
    add(w, files[kind], strlen(files[kind]));
}

static void seed_webp(struct writer *w, bool lossless)
{
    uint8_t pixels[13 * 11 * 4], *out = NULL;
    fill(pixels, sizeof pixels);
    size_t size = lossless ? WebPEncodeLosslessRGBA(pixels, 13, 11, 13 * 4, &out)
                           : WebPEncodeRGB(pixels, 13, 11, 13 * 3, 80, &out);
    ASSERT(size > 0);
    add(w, out, size);
    WebPFree(out);
}

static void seed_tiff(struct writer *w, uint16_t channels, uint16_t compression)
{
    uint8_t pixels[13 * 11 * 4];
    fill(pixels, sizeof pixels);
    open_directory();
    TIFF *t = TIFFOpen(path_of("seed.tif"), "w");
    ASSERT(t != NULL);
    TIFFSetField(t, TIFFTAG_IMAGEWIDTH, 13);
    TIFFSetField(t, TIFFTAG_IMAGELENGTH, 11);
    TIFFSetField(t, TIFFTAG_SAMPLESPERPIXEL, channels);
    TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(t, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(t, TIFFTAG_PHOTOMETRIC, channels < 3 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB);
    TIFFSetField(t, TIFFTAG_COMPRESSION, compression);
    TIFFSetField(t, TIFFTAG_ORIENTATION, ORIENTATION_RIGHTTOP);
    for (uint32_t y = 0; y < 11; y++)
        TIFFWriteScanline(t, pixels + y * 13 * channels, y, 0);
    TIFFClose(t);
    add_file(w, "seed.tif");
}

static void seed_folder(struct writer *w)
{
    seed_png(w, PNG_FORMAT_GA);
    seed_jpeg(w, false);
    seed_netpbm(w, 5);
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
    static const struct {
        enum format format;
        uint32_t variant;
    } seeds[] = {
        {FORMAT_IMAGE, PNG_FORMAT_RGBA},
        {FORMAT_PNG_REPAIRED, PNG_FORMAT_RGB},
        {FORMAT_PNG_REPAIRED, PNG_FORMAT_RGB_COLORMAP},
        {FORMAT_IMAGE, 100},
        {FORMAT_IMAGE, 101},
        {FORMAT_NPY, 0},
        {FORMAT_NPZ, 0},
        {FORMAT_IDX, 0},
        {FORMAT_CIFAR, 0},
        {FORMAT_FOLDER, 0},
        {FORMAT_TAR, 0},
        {FORMAT_ONE_FILE, 0},
        {FORMAT_IMAGE, 200},
        {FORMAT_IMAGE, 201},
        {FORMAT_IMAGE, 202},
        {FORMAT_IMAGE, 203},
        {FORMAT_IMAGE, 204},
        {FORMAT_IMAGE, 205},
        {FORMAT_IMAGE, 300},
        {FORMAT_IMAGE, 301},
        {FORMAT_IMAGE, 400},
        {FORMAT_IMAGE, 401},
        {FORMAT_IMAGE, 402},
    };
    if (i >= sizeof seeds / sizeof seeds[0])
        return 0;
    struct writer w = {.out = out, .size = 1, .room = room};
    out[0] = (uint8_t)seeds[i].format;
    static void (*const files[FORMATS])(struct writer *) = {
        [FORMAT_NPY] = seed_npy,          [FORMAT_NPZ] = seed_npz,       [FORMAT_IDX] = seed_idx,
        [FORMAT_CIFAR] = seed_cifar,      [FORMAT_FOLDER] = seed_folder, [FORMAT_TAR] = seed_tar,
        [FORMAT_ONE_FILE] = seed_one_file};
    if (files[seeds[i].format])
        files[seeds[i].format](&w);
    else if (seeds[i].variant >= 400)
        seed_tiff(&w, seeds[i].variant == 400 ? 1 : 4,
                  seeds[i].variant == 401   ? COMPRESSION_LZW
                  : seeds[i].variant == 402 ? COMPRESSION_ADOBE_DEFLATE
                                            : COMPRESSION_NONE);
    else if (seeds[i].variant >= 300)
        seed_webp(&w, seeds[i].variant == 300);
    else if (seeds[i].variant >= 200)
        seed_netpbm(&w, seeds[i].variant - 200);
    else if (seeds[i].variant >= 100)
        seed_jpeg(&w, seeds[i].variant == 101);
    else
        seed_png(&w, seeds[i].variant);
    return w.size;
}
