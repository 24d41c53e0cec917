/* PBM, PGM and PPM, plain and packed: what is refused, then what comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "worker/data/image_file.h"

/* In memory of exactly that size, so that a sanitizer sees a byte too far. */
static int decode(const char *text, size_t size, struct image *image, struct error *e)
{
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, text, size);
    int rc = image_decode(exact, size, 0, image, e);
    free(exact);
    return rc;
}

static void refuse(const char *text, size_t size, int code, const char *word)
{
    struct image image;
    struct error e = {0};
    assert_int_equal(decode(text, size, &image, &e), code);
    assert_null(image.pixels);
    if (strstr(e.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", e.text, word);
}

static void expect(const char *text, size_t size, uint32_t H, uint32_t W, uint32_t C, const char *pixels)
{
    struct image image;
    struct error e = {0};
    if (decode(text, size, &image, &e) != 0)
        fail_msg("%s", e.text);
    assert_true(image.size.height == H && image.size.width == W && image.size.channels == C);
    assert_memory_equal(image.pixels, pixels, (size_t)H * W * C);
    image_fini(&image);
}

#define TEXT(s) s, sizeof(s) - 1

static void test_refused(void **state)
{
    (void)state;
    refuse(TEXT("P5"), ERR_FORMAT, "not PNG");
    refuse(TEXT("P7 1 1 255\nx"), ERR_FORMAT, "not PNG");
    refuse(TEXT("P5 "), ERR_FORMAT, "no width");
    refuse(TEXT("P5 x 1 255\nx"), ERR_FORMAT, "no width");
    refuse(TEXT("P5 -1 1 255\nx"), ERR_FORMAT, "no width");
    refuse(TEXT("P5 1 1\nx"), ERR_FORMAT, "no width");
    refuse(TEXT("P5 1 1 0\nx"), ERR_FORMAT, "no width");
    refuse(TEXT("P5 1 1 65536\nxx"), ERR_FORMAT, "no width");
    refuse(TEXT("P5 1 1 255x"), ERR_FORMAT, "no blank");
    refuse(TEXT("P5 1 1 255"), ERR_FORMAT, "no blank");
    refuse(TEXT("P5 0 1 255\n"), ERR_RANGE, "pixels");
    refuse(TEXT("P5 32769 1 255\nx"), ERR_RANGE, "at most");
    refuse(TEXT("P5 4294967295 4294967295 255\nx"), ERR_RANGE, "at most");
    refuse(TEXT("P5 99999999999999999999 1 255\nx"), ERR_FORMAT, "no width");
    refuse(TEXT("P6 8000 8000 255\nxxx"), ERR_FORMAT, "truncated"); /* and 192 MB are not taken for it */
    refuse(TEXT("P4 9 1\nx"), ERR_FORMAT, "truncated");
    refuse(TEXT("P2 2 1 9\n1 10"), ERR_FORMAT, "above the largest");
    refuse(TEXT("P5 2 1 9\n\x01\x0a"), ERR_FORMAT, "above the largest");
    refuse(TEXT("P2 2 1 9\n1 x"), ERR_FORMAT, "no number");
    refuse(TEXT("P2 2 1 9\n1  "), ERR_FORMAT, "truncated at value 1 of 2");
    refuse(TEXT("P1 2 1\n1 2"), ERR_FORMAT, "no number");
    refuse(TEXT("P5 1 1 255\nxy"), ERR_FORMAT, "1 bytes behind");
}

static void test_every_truncation(void **state)
{
    (void)state;
    static const char colour[] = "P6 2 2 1000\n\1\2\3\3\2\1\0\0\3\xe8\1\1\1\1\1\1\2\2\2\2\2\2\3\3";
    for (size_t n = 3; n < sizeof colour - 1; n++)
        refuse(colour, n, ERR_FORMAT, "netpbm");
}

static void test_read(void **state)
{
    (void)state;
    expect(TEXT("P1\n# stars\n3 2\n1 0 1\n010\n"), 2, 3, 1, "\x00\xff\x00\xff\x00\xff");
    expect(TEXT("P4\n9 2\n\x80\x80\x7f\x7f"), 2, 9, 1,
           "\x00\xff\xff\xff\xff\xff\xff\xff\x00\xff\x00\x00\x00\x00\x00\x00\x00\xff");
    expect(TEXT("P2 # grey\n2 2 #two by two\n 4\n0 1\n2 4"), 2, 2, 1, "\x00\x40\x80\xff");
    expect(TEXT("P3 1 2 255 1 2 3 4 5 6\n"), 2, 1, 3, "\1\2\3\4\5\6");
    expect(TEXT("P5 3 1 255\n\x00\x20\xff"), 1, 3, 1, "\x00\x20\xff");
    expect(TEXT("P5 2 1 65535\n\x80\x00\xff\xff"), 1, 2, 1, "\x80\xff");
    expect(TEXT("P6\r\n1 1\r255\n\n\x0b\x0c\n"), 1, 1, 3, "\x0a\x0b\x0c"); /* one blank only is no pixel */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
