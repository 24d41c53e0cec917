/* Decoded images, conversion and resizing: failures first, then what comes out against references in plain arithmetic.
 */
#include <math.h>
#include <string.h>
#include <zlib.h>
#include "tests/unit/worker/data_place.h"
#include "common/rng.h"
#include "worker/data/image_file.h"

enum { H = 24, W = 17 };

static void random_pixels(uint8_t *out, size_t n, uint64_t seed)
{
    struct rng r;
    rng_open(&r, seed, RNG_JITTER, 0, 0, 0);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)rng_u32(&r);
}

/* Smooth, so that JPEG keeps it. */
static void ramp(uint8_t *out, uint32_t height, uint32_t width, uint32_t channels)
{
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            for (uint32_t c = 0; c < channels; c++)
                out[(y * width + x) * channels + c] = (uint8_t)(40 + 3 * x + 2 * y + 20 * c);
}

static uint8_t *png_bytes(const uint8_t *pixels, uint32_t height, uint32_t width, uint32_t format, size_t *size)
{
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = format};
    png_alloc_size_t bytes = 0;
    assert_true(png_image_write_to_memory(&image, NULL, &bytes, 0, pixels, 0, NULL));
    uint8_t *out = malloc(bytes);
    assert_true(png_image_write_to_memory(&image, out, &bytes, 0, pixels, 0, NULL));
    *size = bytes;
    return out;
}

static void expect_refusal(const uint8_t *bytes, size_t size, int code, const char *word)
{
    struct image image;
    struct error e = {0};
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    assert_int_equal(image_decode(exact, size, 0, &image, &e), code);
    assert_null(image.pixels);
    if (strstr(e.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", e.text, word);
    free(exact);
}

static void test_no_image(void **state)
{
    (void)state;
    expect_refusal((const uint8_t *)"", 0, ERR_FORMAT, "empty");
    expect_refusal((const uint8_t *)"x", 1, ERR_FORMAT, "not PNG, JPEG, WebP");
    expect_refusal((const uint8_t *)"GIF89a", 6, ERR_FORMAT, "is GIF");
    expect_refusal((const uint8_t *)"\x89PNG\r\n\x1a\n", 8, ERR_FORMAT, "truncated");
    expect_refusal((const uint8_t *)"\xff\xd8\xff", 3, ERR_FORMAT, "JPEG");
}

static void test_every_png_truncation(void **state)
{
    (void)state;
    uint8_t pixels[H * W * 3];
    size_t size;
    random_pixels(pixels, sizeof pixels, 1);
    uint8_t *png = png_bytes(pixels, H, W, PNG_FORMAT_RGB, &size);
    for (size_t n = 8; n < size; n++)
        expect_refusal(png, n, ERR_FORMAT, "truncated");
    png[size / 2] ^= 1;
    expect_refusal(png, size, ERR_FORMAT, "PNG: ");
    free(png);
}

static void put_chunk(uint8_t *out, size_t *at, const char *type, const uint8_t *data, uint32_t size)
{
    uint32_t big = __builtin_bswap32(size);
    memcpy(out + *at, &big, 4);
    memcpy(out + *at + 4, type, 4);
    memcpy(out + *at + 8, data, size);
    big = __builtin_bswap32((uint32_t)crc32(0, out + *at + 4, size + 4));
    memcpy(out + *at + 8 + size, &big, 4);
    *at += 12 + size;
}

/* A sound header that claims a huge image, and next to nothing behind it. */
static void test_huge_png(void **state)
{
    (void)state;
    static const struct {
        uint8_t width[4], height[4];
        int code;
        const char *word;
    } claims[] = {
        {{0x7f, 0xff, 0xff, 0xff}, {0x7f, 0xff, 0xff, 0xff}, ERR_FORMAT, "IHDR"},
        {{0, 0, 0x80, 0}, {0, 0, 0x80, 0}, ERR_RANGE, "32768x32768"},
        {{0, 0, 0, 0}, {0, 0, 0, 1}, ERR_FORMAT, "IHDR"},
    };
    for (size_t i = 0; i < sizeof claims / sizeof claims[0]; i++) {
        uint8_t png[128] = "\x89PNG\r\n\x1a\n", header[13] = {[8] = 8, [9] = 2};
        size_t at = 8;
        memcpy(header, claims[i].width, 4);
        memcpy(header + 4, claims[i].height, 4);
        put_chunk(png, &at, "IHDR", header, 13);
        put_chunk(png, &at, "IDAT", header, 5);
        expect_refusal(png, at, claims[i].code, claims[i].word);
    }
}

static void test_png_channels(void **state)
{
    (void)state;
    static const uint32_t formats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA, PNG_FORMAT_RGB, PNG_FORMAT_RGBA};
    uint8_t pixels[H * W * 4];
    random_pixels(pixels, sizeof pixels, 2);
    for (uint32_t c = 1; c <= 4; c++) {
        struct image image;
        struct error e;
        size_t size;
        uint8_t *png = png_bytes(pixels, H, W, formats[c - 1], &size);
        assert_int_equal(image_decode(png, size, 5, &image, &e), 0);
        assert_true(image.size.height == H && image.size.width == W && image.size.channels == c);
        assert_memory_equal(image.pixels, pixels, H * W * c);
        image_fini(&image);
        free(png);
    }
}

static void test_png_palette(void **state)
{
    (void)state;
    static const uint8_t indices[6] = {0, 1, 2, 2, 1, 0}, colours[9] = {255, 0, 0, 0, 255, 0, 0, 0, 255};
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = 3,
                       .height = 2,
                       .format = PNG_FORMAT_RGB_COLORMAP,
                       .colormap_entries = 3};
    uint8_t png[512];
    png_alloc_size_t size = sizeof png;
    struct image out;
    struct error e;
    assert_true(png_image_write_to_memory(&image, png, &size, 0, indices, 0, colours));
    assert_int_equal(image_decode(png, size, 0, &out, &e), 0);
    assert_int_equal(out.size.channels, 3);
    for (int i = 0; i < 6; i++)
        assert_memory_equal(out.pixels + 3 * i, colours + 3 * indices[i], 3);
    image_fini(&out);
}

static void test_jpeg(void **state)
{
    (void)state;
    uint8_t pixels[H * W * 3];
    for (int variant = 0; variant < 4; variant++) {
        uint32_t C = variant % 2 ? 3 : 1;
        struct image image;
        struct error e;
        unsigned long size;
        ramp(pixels, H, W, C);
        uint8_t *jpeg = jpeg_bytes(pixels, H, W, C, variant >= 2 ? JPEG_PROGRESSIVE : JPEG_BASELINE, &size);
        assert_int_equal(image_decode(jpeg, size, 0, &image, &e), 0);
        assert_true(image.size.height == H && image.size.width == W && image.size.channels == C);
        for (size_t i = 0; i < H * W * C; i++)
            assert_true(abs(image.pixels[i] - pixels[i]) <= 8); /* quality 95, subsampled colour */
        image_fini(&image);
        free(jpeg);
    }
}

static void test_jpeg_truncations(void **state)
{
    (void)state;
    uint8_t pixels[H * W * 3];
    ramp(pixels, H, W, 3);
    for (int script = JPEG_BASELINE; script <= JPEG_SEPARATE; script++) {
        unsigned long size;
        uint8_t *jpeg = jpeg_bytes(pixels, H, W, 3, (enum jpeg_script)script, &size);
        for (size_t n = 3; n < size; n++)
            expect_refusal(jpeg, n, ERR_FORMAT, "JPEG: ");
        free(jpeg);
    }
}

static void test_jpeg_refusals(void **state)
{
    (void)state;
    uint8_t pixels[16 * 16 * 4] = {0};
    unsigned long size;
    uint8_t *jpeg = jpeg_bytes(pixels, 16, 16, 4, JPEG_BASELINE, &size);
    expect_refusal(jpeg, size, ERR_FORMAT, "CMYK");
    free(jpeg);
    jpeg = jpeg_bytes(pixels, 16, 16, 3, JPEG_BASELINE, &size);
    for (size_t i = 0; i + 9 < size; i++) /* the frame's header: ff c0, length, precision, height, width */
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xc0)
            memset(jpeg + i + 5, 0x80, 4);
    expect_refusal(jpeg, size, ERR_RANGE, "32896x32896");
    free(jpeg);
}

/* The first channel's scan over and over: each is a pass over the image for a few bytes of file. */
static void test_jpeg_of_too_many_scans(void **state)
{
    (void)state;
    enum { SCANS = JPEG_SCANS_MAX + 10 };
    uint8_t pixels[8 * 8 * 3] = {0};
    unsigned long size;
    uint8_t *jpeg = jpeg_bytes(pixels, 8, 8, 3, JPEG_SEPARATE, &size);
    size_t scans[2], found = 0; /* where the first two begin, their Huffman tables before them */
    for (size_t i = 0; i + 1 < size && found < 2; i++)
        if (jpeg[i] == 0xff && jpeg[i + 1] == 0xda)
            scans[found++] = i;
    size_t scan = scans[0];
    while (scan + 1 < scans[1] && !(jpeg[scan] == 0xff && jpeg[scan + 1] == 0xc4))
        scan++; /* the second scan's tables end the first scan */
    size_t length = scan - scans[0];
    uint8_t *bomb = malloc(scans[0] + SCANS * length + size - scan);
    memcpy(bomb, jpeg, scans[0]);
    for (size_t i = 0; i < SCANS; i++)
        memcpy(bomb + scans[0] + i * length, jpeg + scans[0], length);
    memcpy(bomb + scans[0] + SCANS * length, jpeg + scan, size - scan);
    expect_refusal(bomb, scans[0] + SCANS * length + size - scan, ERR_RANGE, "scans");
    free(bomb);
    free(jpeg);
}

static void test_jpeg_reduced(void **state)
{
    (void)state;
    uint8_t *pixels = malloc(256 * 300 * 3);
    struct image image;
    struct error e;
    unsigned long size;
    memset(pixels, 90, 256 * 300 * 3);
    uint8_t *jpeg = jpeg_bytes(pixels, 256, 300, 3, JPEG_BASELINE, &size);
    static const uint32_t wanted[][2] = {{32, 32}, {33, 64}, {128, 128}, {129, 256}, {0, 256}};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(image_decode(jpeg, size, wanted[i][0], &image, &e), 0);
        assert_int_equal(image.size.height, wanted[i][1]);
        assert_true(abs(image.pixels[0] - 90) <= 1);
        image_fini(&image);
    }
    free(jpeg);
    free(pixels);
}

static void test_formats_by_content(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *name;
        size_t size;
        bool readable;
    } cases[] = {
        {"\x89PNG\r\n\x1a\n", "PNG", 8, true},
        {"\xff\xd8\xff\xe0", "JPEG", 4, true},
        {"P6 1 1 255\nabc", "netpbm", 14, true},
        {"RIFF\0\0\0\0WEBPVP8 ", "WebP", 16, true},
        {"II*\0\x08\0\0\0", "TIFF", 8, true},
        {"GIF89a", "GIF", 6, false},
        {"\0\0\0\x1c"
         "ftypavif",
         "AVIF", 12, false},
        {"\0\0\0\x18"
         "ftypheic",
         "HEIC", 12, false},
        {"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0", "BMP", 16, false},
        {"<!DOCTYPE html>", "HTML", 15, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool readable;
        assert_string_equal(image_format_of((const uint8_t *)cases[i].bytes, cases[i].size, &readable), cases[i].name);
        assert_int_equal(readable, cases[i].readable);
        assert_null(image_format_of((const uint8_t *)cases[i].bytes, 1, NULL));
    }
    assert_null(image_format_of((const uint8_t *)"BM is how this text begins", 26, NULL));
    expect_refusal((const uint8_t *)"<html><body>404", 15, ERR_FORMAT, "an HTML page");
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(image_name_kind("a.png"), IMAGE_NAME_READ);
    assert_int_equal(image_name_kind("b/A.JPeG"), IMAGE_NAME_READ);
    static const char *const read[] = {"a.jfif", "a.jpe", "a.PPM",  "a.pgm",    "a.pbm",
                                       "a.pnm",  "a.tif", "a.TIFF", "x.y/a.jpg"};
    static const char *const unread[] = {"a.gif", "a.bmp", "a.heic", "a.avif", "a.jxl", "a.cr2"};
    for (size_t i = 0; i < sizeof read / sizeof read[0]; i++)
        assert_int_equal(image_name_kind(read[i]), IMAGE_NAME_READ);
    for (size_t i = 0; i < sizeof unread / sizeof unread[0]; i++)
        assert_int_equal(image_name_kind(unread[i]), IMAGE_NAME_UNREAD);
    assert_int_equal(image_name_kind("a.png.txt"), IMAGE_NAME_TEXT);
    assert_int_equal(image_name_kind("a.dat"), IMAGE_NAME_OTHER);
    assert_int_equal(image_name_kind("x.png/a"), IMAGE_NAME_OTHER);
    assert_int_equal(image_name_kind("a.webp"), IMAGE_NAME_READ);
    assert_int_equal(image_name_kind("png"), IMAGE_NAME_OTHER);
}

/* ---- conversion ---- */

static void test_convert(void **state)
{
    (void)state;
    uint8_t out[8];
    image_convert((const uint8_t *)"\x07\xc8", 1, out, 3, 2, 0);
    assert_memory_equal(out, "\x07\x07\x07\xc8\xc8\xc8", 6);
    image_convert((const uint8_t *)"\xff\x00\x00\x09\x09\x09", 3, out, 1, 2, 0);
    assert_memory_equal(out, "\x4c\x09", 2);                             /* 0.299 * 255 = 76.2 */
    image_convert((const uint8_t *)"\xff\x80\x0a\x80", 4, out, 3, 1, 0); /* half transparent, on black */
    assert_memory_equal(out, "\x80\x40\x05", 3);
    image_convert((const uint8_t *)"\xff\x80\x0a\x80", 4, out, 3, 1, 255); /* ... on white */
    assert_memory_equal(out, "\xff\xbf\x84", 3);
    image_convert((const uint8_t *)"\xc8\x00\xc8\xff", 2, out, 1, 2, 128);
    assert_memory_equal(out, "\x80\xc8", 2);
    image_convert((const uint8_t *)"\xc8\x00\xc8\xff", 2, out, 1, 2, 0);
    assert_memory_equal(out, "\x00\xc8", 2);
    image_convert((const uint8_t *)"\x01\x02\x03", 3, out, 4, 1, 0);
    assert_memory_equal(out, "\x01\x02\x03\xff", 4);
}

/* ---- size ---- */

/* The triangle filter in double, straight from the definition. */
static double reference(const uint8_t *in, const struct image_size *s, const struct image_size *to, uint32_t y,
                        uint32_t x, uint32_t c)
{
    double scale = fmin((double)s->height / to->height, (double)s->width / to->width), support = fmax(1, scale);
    double cy = s->height / 2.0 + (y + 0.5 - to->height / 2.0) * scale;
    double cx = s->width / 2.0 + (x + 0.5 - to->width / 2.0) * scale, sum = 0, weights = 0;
    for (uint32_t j = 0; j < s->height; j++)
        for (uint32_t i = 0; i < s->width; i++) {
            double w = fmax(0, 1 - fabs(j + 0.5 - cy) / support) * fmax(0, 1 - fabs(i + 0.5 - cx) / support);
            sum += w * in[(j * s->width + i) * s->channels + c];
            weights += w;
        }
    return sum / weights;
}

static void test_fit_against_reference(void **state)
{
    (void)state;
    static const struct image_size cases[][2] = {
        {{10, 10, 1}, {5, 5, 1}},   {{37, 23, 3}, {8, 8, 3}}, {{5, 9, 3}, {12, 12, 3}}, {{1, 1, 1}, {4, 4, 1}},
        {{64, 16, 1}, {16, 16, 1}}, {{16, 64, 2}, {7, 5, 2}}, {{3, 2, 4}, {2, 3, 4}},   {{200, 3, 1}, {1, 1, 1}},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const struct image_size *from = &cases[k][0], *to = &cases[k][1];
        uint8_t *in = malloc(image_bytes(from)), *out = malloc(image_bytes(to));
        random_pixels(in, image_bytes(from), k);
        assert_int_equal(image_fit(in, from, out, to, 0), 0);
        for (uint32_t y = 0; y < to->height; y++)
            for (uint32_t x = 0; x < to->width; x++)
                for (uint32_t c = 0; c < to->channels; c++) {
                    double want = reference(in, from, to, y, x, c);
                    double got = out[(y * to->width + x) * to->channels + c];
                    assert_true(fabs(got - want) < 0.75); /* half for rounding, the rest for 14-bit weights */
                }
        free(in);
        free(out);
    }
}

static void test_fit_keeps_what_is_flat_or_equal(void **state)
{
    (void)state;
    struct image_size big = {301, 77, 3}, small = {32, 32, 3}, same = {32, 32, 3};
    uint8_t *in = malloc(image_bytes(&big)), out[32 * 32 * 3], again[32 * 32 * 3];
    memset(in, 255, image_bytes(&big));
    assert_int_equal(image_fit(in, &big, out, &small, 0), 0);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 255);
    random_pixels(out, sizeof out, 5);
    assert_int_equal(image_fit(out, &small, again, &same, 0), 0);
    assert_memory_equal(out, again, sizeof out);
    free(in);
}

/* What is transparent must not bleed: bright under alpha 0 is black. */
static void test_fit_composites_first(void **state)
{
    (void)state;
    static const uint8_t in[4 * 2] = {200, 0, 100, 255, 200, 0, 100, 255};
    struct image_size from = {2, 2, 2}, to = {1, 1, 1};
    uint8_t out;
    assert_int_equal(image_fit(in, &from, &out, &to, 0), 0);
    assert_int_equal(out, 50);
}

static void test_sane_sizes(void **state)
{
    (void)state;
    assert_true(image_size_is_sane(&(struct image_size){1, 1, 1}));
    assert_false(image_size_is_sane(&(struct image_size){0, 1, 1}));
    assert_false(image_size_is_sane(&(struct image_size){1, UINT32_MAX, 1}));
    assert_false(image_size_is_sane(&(struct image_size){IMAGE_SIDE_FILE_MAX, IMAGE_SIDE_FILE_MAX, 1}));
    assert_false(image_size_is_sane(&(struct image_size){8, 8, 5}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_image),
        cmocka_unit_test(test_every_png_truncation),
        cmocka_unit_test(test_huge_png),
        cmocka_unit_test(test_png_channels),
        cmocka_unit_test(test_png_palette),
        cmocka_unit_test(test_jpeg),
        cmocka_unit_test(test_jpeg_truncations),
        cmocka_unit_test(test_jpeg_refusals),
        cmocka_unit_test(test_jpeg_of_too_many_scans),
        cmocka_unit_test(test_jpeg_reduced),
        cmocka_unit_test(test_formats_by_content),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_fit_against_reference),
        cmocka_unit_test(test_fit_keeps_what_is_flat_or_equal),
        cmocka_unit_test(test_fit_composites_first),
        cmocka_unit_test(test_sane_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
