/* Orientation: EXIF data that are damaged, then each of the eight, in the bytes and in JPEG and PNG files. */
#include "tests/unit/worker/data_place.h"
#include "worker/data/exif.h"
#include "worker/data/image_file.h"

/* A directory of two entries, the second the orientation. */
static const uint8_t little[] = {'I', 'I', 42, 0, 8, 0,    0, 0, 2, 0, 0x0f, 1, 2, 0, 1, 0, 0,
                                 0,   'x', 0,  0, 0, 0x12, 1, 3, 0, 1, 0,    0, 0, 6, 0, 0, 0};
static const uint8_t big[] = {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, 8, 0, 0};

static uint8_t changed(size_t at, uint8_t value)
{
    uint8_t bytes[sizeof little];
    memcpy(bytes, little, sizeof little);
    bytes[at] = value;
    return exif_orientation(bytes, sizeof bytes);
}

static void test_parse(void **state)
{
    (void)state;
    assert_int_equal(exif_orientation(little, sizeof little), 6);
    assert_int_equal(exif_orientation(big, sizeof big), 8);
    for (size_t n = 0; n < sizeof little; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, little, n);
        assert_int_equal(exif_orientation(exact, n), 1);
        free(exact);
    }
    assert_int_equal(changed(0, 'X'), 1);
    assert_int_equal(changed(2, 43), 1);
    assert_int_equal(changed(7, 255), 1); /* a directory far behind the end */
    assert_int_equal(changed(4, 33), 1);  /* at the last byte */
    assert_int_equal(changed(8, 255), 6); /* more entries than there are, behind the one that counts */
    assert_int_equal(changed(8, 1), 1);   /* not among the entries */
    assert_int_equal(changed(24, 4), 1);  /* another type */
    assert_int_equal(changed(26, 2), 1);  /* two values */
    assert_int_equal(changed(30, 0), 1);
    assert_int_equal(changed(30, 9), 1);
}

static const uint8_t stored[] = {1, 2, 3, 4, 5, 6}; /* two rows of three */
static const char *const upright[9] = {"",
                                       "\1\2\3\4\5\6",
                                       "\3\2\1\6\5\4",
                                       "\6\5\4\3\2\1",
                                       "\4\5\6\1\2\3",
                                       "\1\4\2\5\3\6",
                                       "\4\1\5\2\6\3",
                                       "\6\3\5\2\4\1",
                                       "\3\6\2\5\1\4"};

static void test_turn(void **state)
{
    (void)state;
    for (uint8_t o = 1; o <= 8; o++) {
        struct image image = {.size = {2, 3, 1}, .file = {20, 30, 1}, .orientation = o};
        image.pixels = malloc(6);
        memcpy(image.pixels, stored, 6);
        assert_int_equal(image_turn(&image, NULL), 0);
        assert_memory_equal(image.pixels, upright[o], 6);
        assert_int_equal(image.size.height, o < 5 ? 2 : 3);
        assert_int_equal(image.size.width, o < 5 ? 3 : 2);
        assert_int_equal(image.file.height, o < 5 ? 20 : 30);
        assert_int_equal(image_turn(&image, NULL), 0); /* upright now */
        assert_memory_equal(image.pixels, upright[o], 6);
        image_fini(&image);
    }
}

/* Two grey halves, the brighter on the left, with an APP1 segment behind the first marker. */
static void test_jpeg(void **state)
{
    (void)state;
    enum { H = 16, W = 32, SEGMENT = 4 + 6 + sizeof little };
    uint8_t pixels[H * W], file[8192];
    unsigned long size;
    for (int i = 0; i < H * W; i++)
        pixels[i] = i % W < W / 2 ? 200 : 50;
    uint8_t *jpeg = jpeg_bytes(pixels, H, W, 1, JPEG_BASELINE, &size);
    assert_true(size + SEGMENT <= sizeof file);
    memcpy(file, jpeg, 2);
    memcpy(file + 2, "\xff\xe1\0", 3);
    file[5] = SEGMENT - 2;
    memcpy(file + 6, "Exif\0\0", 6);
    memcpy(file + 12, little, sizeof little);
    memcpy(file + 2 + SEGMENT, jpeg + 2, size - 2);
    struct image image;
    struct error e = {0};
    assert_int_equal(image_decode(file, size + SEGMENT, 0, &image, &e), 0);
    assert_true(image.size.height == W && image.size.width == H && image.file.height == W);
    assert_true(abs(image.pixels[0] - 200) < 9 && abs(image.pixels[H * W - 1] - 50) < 9); /* left has become top */
    image_fini(&image);
    file[12] = 'X';
    assert_int_equal(image_decode(file, size + SEGMENT, 0, &image, &e), 0);
    assert_int_equal(image.size.height, H);
    image_fini(&image);
    free(jpeg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_turn),
        cmocka_unit_test(test_jpeg),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
