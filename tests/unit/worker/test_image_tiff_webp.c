/* WebP and TIFF in memory: every truncation is an error, and what comes out is what went in. */
#include <tiffio.h>
#include <webp/encode.h>
#include "tests/unit/worker/data_place.h"
#include "worker/data/image_file.h"

enum { H = 5, W = 7 };

static void ramp(uint8_t *out, uint32_t channels)
{
    for (uint32_t i = 0; i < H * W * channels; i++)
        out[i] = (uint8_t)(i * 37 + i / 11);
}

/* In memory of exactly that size, so that a sanitizer sees a byte too far. */
static int decode(const uint8_t *bytes, size_t size, struct image *image, struct error *e)
{
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    int rc = image_decode(exact, size, 0, image, e);
    free(exact);
    return rc;
}

static void expect_image(const uint8_t *bytes, size_t size, const uint8_t *pixels, uint32_t channels)
{
    struct image image;
    struct error e = {0};
    if (decode(bytes, size, &image, &e) != 0)
        fail_msg("%s", e.text);
    assert_true(image.size.height == H && image.size.width == W && image.size.channels == channels);
    assert_memory_equal(image.pixels, pixels, H * W * channels);
    image_fini(&image);
}

static void expect_no_truncation(const uint8_t *bytes, size_t size)
{
    for (size_t n = 0; n < size; n++) {
        struct image image;
        struct error e = {0};
        if (decode(bytes, n, &image, &e) == 0)
            fail_msg("%zu of %zu bytes were an image", n, size);
        assert_true(e.text[0] != '\0' && image.pixels == NULL);
    }
}

static void test_webp(void **state)
{
    (void)state;
    uint8_t pixels[H * W * 4], *webp;
    ramp(pixels, 3);
    size_t size = WebPEncodeLosslessRGB(pixels, W, H, W * 3, &webp);
    expect_image(webp, size, pixels, 3);
    expect_no_truncation(webp, size);
    WebPFree(webp);
    ramp(pixels, 4);
    for (int i = 0; i < H * W; i++)
        pixels[4 * i + 3] |= 1; /* the encoder drops the colour of what cannot be seen */
    size = WebPEncodeLosslessRGBA(pixels, W, H, W * 4, &webp);
    expect_image(webp, size, pixels, 4);
    WebPFree(webp);
}

/* The bytes of a TIFF file; free() them. */
static uint8_t *tiff(const struct place *p, const uint8_t *pixels, uint16_t channels, uint16_t compression,
                     uint16_t orientation, size_t *size)
{
    static const uint16_t alpha = EXTRASAMPLE_UNASSALPHA;
    TIFF *t = TIFFOpen(place_path(p, "a.tif"), "w");
    assert_non_null(t);
    TIFFSetField(t, TIFFTAG_IMAGEWIDTH, W);
    TIFFSetField(t, TIFFTAG_IMAGELENGTH, H);
    TIFFSetField(t, TIFFTAG_SAMPLESPERPIXEL, channels);
    TIFFSetField(t, TIFFTAG_BITSPERSAMPLE, 8);
    TIFFSetField(t, TIFFTAG_PLANARCONFIG, PLANARCONFIG_CONTIG);
    TIFFSetField(t, TIFFTAG_PHOTOMETRIC, channels < 3 ? PHOTOMETRIC_MINISBLACK : PHOTOMETRIC_RGB);
    TIFFSetField(t, TIFFTAG_COMPRESSION, compression);
    TIFFSetField(t, TIFFTAG_ORIENTATION, orientation);
    if (channels == 2 || channels == 4)
        TIFFSetField(t, TIFFTAG_EXTRASAMPLES, 1, &alpha);
    for (uint32_t y = 0; y < H; y++)
        assert_int_equal(TIFFWriteScanline(t, (void *)(uintptr_t)(pixels + y * W * channels), y, 0), 1);
    TIFFClose(t);
    uint8_t *bytes = malloc(1 << 14);
    FILE *f = fopen(place_path(p, "a.tif"), "rb");
    *size = fread(bytes, 1, 1 << 14, f);
    fclose(f);
    return bytes;
}

static void test_tiff(void **state)
{
    static const uint16_t compressions[] = {COMPRESSION_NONE, COMPRESSION_LZW, COMPRESSION_ADOBE_DEFLATE,
                                            COMPRESSION_PACKBITS};
    uint8_t pixels[H * W * 4];
    size_t size;
    for (uint16_t channels = 1; channels <= 4; channels++)
        for (size_t i = 0; i < sizeof compressions / sizeof compressions[0]; i++) {
            ramp(pixels, channels);
            for (int k = 0; (channels == 2 || channels == 4) && k < H * W; k++)
                pixels[k * channels + channels - 1] = 255; /* else colours are rounded */
            uint8_t *bytes = tiff(*state, pixels, channels, compressions[i], ORIENTATION_TOPLEFT, &size);
            expect_image(bytes, size, pixels, channels);
            expect_no_truncation(bytes, size - 4); /* the last four bytes are the offset of no next page */
            free(bytes);
        }
}

/* Colours of pixels that can be half seen through are their own, not multiplied by alpha. */
static void test_tiff_alpha(void **state)
{
    uint8_t pixels[H * W * 4];
    size_t size;
    struct image image;
    struct error e = {0};
    for (int i = 0; i < H * W; i++)
        memcpy(pixels + 4 * i, "\xc8\x64\x0a\x80", 4);
    uint8_t *bytes = tiff(*state, pixels, 4, COMPRESSION_LZW, ORIENTATION_TOPLEFT, &size);
    assert_int_equal(decode(bytes, size, &image, &e), 0);
    for (int c = 0; c < 4; c++)
        assert_true(abs(image.pixels[c] - pixels[c]) <= 1);
    image_fini(&image);
    free(bytes);
}

static void test_tiff_orientation(void **state)
{
    uint8_t pixels[H * W];
    size_t size;
    ramp(pixels, 1);
    for (uint16_t o = 1; o <= 8; o++) {
        struct image image, wanted = {.size = {H, W, 1}, .orientation = (uint8_t)o};
        struct error e = {0};
        wanted.pixels = malloc(sizeof pixels);
        memcpy(wanted.pixels, pixels, sizeof pixels);
        assert_int_equal(image_turn(&wanted, &e), 0);
        uint8_t *bytes = tiff(*state, pixels, 1, COMPRESSION_NONE, o, &size);
        assert_int_equal(decode(bytes, size, &image, &e), 0);
        assert_int_equal(image.size.height, wanted.size.height);
        assert_memory_equal(image.pixels, wanted.pixels, sizeof pixels);
        image_fini(&image);
        image_fini(&wanted);
        free(bytes);
    }
}

/* A size that the file cannot bear out costs an error, and no memory before it. */
static void test_claims(void **state)
{
    uint8_t pixels[H * W];
    size_t size;
    ramp(pixels, 1);
    uint8_t *bytes = tiff(*state, pixels, 1, COMPRESSION_NONE, 1, &size);
    uint32_t directory;
    memcpy(&directory, bytes + 4, 4);
    for (size_t at = directory + 2; at + 12 <= size; at += 12)
        if (bytes[at] == 0 && bytes[at + 1] == 1) { /* the width: 2^24 */
            memcpy(bytes + at + 2, "\4\0", 2);
            memcpy(bytes + at + 8, "\0\0\0\1", 4);
            break;
        }
    struct image image;
    struct error e = {0};
    assert_true(decode(bytes, size, &image, &e) != 0);
    assert_null(image.pixels);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_webp),       PLACE_CASE(test_tiff),   PLACE_CASE(test_tiff_alpha),
        PLACE_CASE(test_tiff_orientation), PLACE_CASE(test_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
