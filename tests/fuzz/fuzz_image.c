/* Pictures from foreign bytes: PNG, JPEG, WebP, TIFF and netpbm, told apart by their first bytes, and EXIF data. An
 * input is a byte that names the kind, then the file. Checksums keep most damage from getting far in a PNG, so one kind
 * has them repaired first. */
#include <png.h>
#include <stdio.h>
#include <tiffio.h>
#include <jpeglib.h>
#include <stdlib.h>
#include <webp/encode.h>
#include <zlib.h>
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"
#include "worker/data/exif.h"
#include "worker/data/image_file.h"

enum kind { KIND_IMAGE, KIND_PNG_REPAIRED, KIND_EXIF, KINDS };
enum { SIDE = 8 };

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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size--;
    uint8_t *file = malloc(size ? size : 1); /* of exactly that size, so that a read beyond it is seen */
    memcpy(file, data + 1, size);
    enum kind kind = (enum kind)(data[0] % KINDS);
    if (kind == KIND_PNG_REPAIRED)
        repair_png(file, size);
    if (kind == KIND_EXIF)
        ASSERT(exif_orientation(file, size) - 1 < 8);
    else
        decode(file, size);
    free(file);
    return 0;
}

/* ---- seeds ---- */

struct writer {
    uint8_t *out;
    size_t size, room;
};

static void add(struct writer *w, const void *bytes, size_t size)
{
    ASSERT(w->size + size <= w->room);
    memcpy(w->out + w->size, bytes, size);
    w->size += size;
}

static void fill(uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(i * 7 + i / 13);
}

static void seed_png(struct writer *w, uint32_t format)
{
    static const uint32_t formats[] = {PNG_FORMAT_RGBA, PNG_FORMAT_RGB, PNG_FORMAT_RGB_COLORMAP, PNG_FORMAT_GA};
    uint8_t pixels[13 * 11 * 4], colours[256 * 4], png[4096];
    png_image image = {
        .version = PNG_IMAGE_VERSION, .width = 13, .height = 11, .format = formats[format], .colormap_entries = 256};
    png_alloc_size_t size = sizeof png;
    fill(pixels, sizeof pixels);
    fill(colours, sizeof colours);
    ASSERT(png_image_write_to_memory(&image, png, &size, 0, pixels, 0, colours));
    add(w, png, size);
}

static void seed_jpeg(struct writer *w, uint32_t progressive)
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

static void seed_netpbm(struct writer *w, uint32_t kind)
{
    static const char *const files[] = {"P1 3 2 1 0 1 0 0 1\n", "P2\n# c\n2 2 9 0 1 2 9 ", "P3 1 1 255 1 2 3",
                                        "P4 9 2\nabcd",         "P5 3 2 255\nabcdef",      "P6 1 1 65535\nabcdef"};
    add(w, files[kind], strlen(files[kind]));
}

static void seed_webp(struct writer *w, uint32_t lossless)
{
    uint8_t pixels[13 * 11 * 4], *out = NULL;
    fill(pixels, sizeof pixels);
    size_t size = lossless ? WebPEncodeLosslessRGBA(pixels, 13, 11, 13 * 4, &out)
                           : WebPEncodeRGB(pixels, 13, 11, 13 * 3, 80, &out);
    ASSERT(size > 0);
    add(w, out, size);
    WebPFree(out);
}

static void seed_tiff(struct writer *w, uint32_t variant)
{
    static const struct {
        uint16_t channels, compression;
    } variants[] = {{1, COMPRESSION_NONE}, {4, COMPRESSION_LZW}, {4, COMPRESSION_ADOBE_DEFLATE}};
    uint16_t channels = variants[variant].channels;
    uint8_t pixels[13 * 11 * 4], file[4096];
    fill(pixels, sizeof pixels);
    TIFF *t = TIFFOpen(scratch_path("seed.tif"), "w");
    ASSERT(t != NULL);
    TIFFSetField(t, TIFFTAG_IMAGEWIDTH, 13);
    TIFFSetField(t, TIFFTAG_IMAGELENGTH, 11);
    TIFFSetField(t, TIFFTAG_SAMPLESPERPIXEL, channels);
    TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(t, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(t, TIFFTAG_PHOTOMETRIC, channels < 3 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB);
    TIFFSetField(t, TIFFTAG_COMPRESSION, variants[variant].compression);
    TIFFSetField(t, TIFFTAG_ORIENTATION, ORIENTATION_RIGHTTOP);
    for (uint32_t y = 0; y < 11; y++)
        TIFFWriteScanline(t, pixels + y * 13 * channels, y, 0);
    TIFFClose(t);
    add(w, file, scratch_get("seed.tif", file, sizeof file));
}

static void seed_exif(struct writer *w, uint32_t big_endian)
{
    static const uint8_t little[] = "II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0";
    static const uint8_t big[] = "MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0";
    add(w, big_endian ? big : little, sizeof little - 1);
}

size_t fuzz_seed(size_t i, uint8_t *out, size_t room)
{
    static const struct {
        void (*write)(struct writer *, uint32_t variant);
        uint32_t variant;
        enum kind kind;
    } seeds[] = {
        {seed_png, 0, KIND_IMAGE},        {seed_png, 1, KIND_PNG_REPAIRED}, {seed_png, 2, KIND_PNG_REPAIRED},
        {seed_png, 3, KIND_PNG_REPAIRED}, {seed_jpeg, 0, KIND_IMAGE},       {seed_jpeg, 1, KIND_IMAGE},
        {seed_netpbm, 0, KIND_IMAGE},     {seed_netpbm, 1, KIND_IMAGE},     {seed_netpbm, 2, KIND_IMAGE},
        {seed_netpbm, 3, KIND_IMAGE},     {seed_netpbm, 4, KIND_IMAGE},     {seed_netpbm, 5, KIND_IMAGE},
        {seed_webp, 0, KIND_IMAGE},       {seed_webp, 1, KIND_IMAGE},       {seed_tiff, 0, KIND_IMAGE},
        {seed_tiff, 1, KIND_IMAGE},       {seed_tiff, 2, KIND_IMAGE},       {seed_exif, 0, KIND_EXIF},
        {seed_exif, 1, KIND_EXIF},
    };
    if (i >= sizeof seeds / sizeof seeds[0])
        return 0;
    struct writer w = {.out = out, .size = 1, .room = room};
    out[0] = (uint8_t)seeds[i].kind;
    seeds[i].write(&w, seeds[i].variant);
    return w.size;
}
