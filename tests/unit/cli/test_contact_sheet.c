/* What a sheet may hold, what becomes of names, and that the PNG has the images' pixels where they belong. */
#include "cli/contact_sheet.h"
#include "tests/unit/cli/checkpoint_rig.h"
#include "worker/data/image_file.h"

/* What fontconfig has cached for cairo is not all freed when a process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfontconfig\n";
}

static void test_limits(void **state)
{
    struct rig *r = *state;
    const struct dataset d = {.height = 2, .width = 2, .channels = 1};
    struct contact_sheet s;
    assert_int_equal(contact_sheet_init(&d, 0, 1, &s, &r->e), ERR_RANGE);
    assert_int_equal(contact_sheet_init(&d, SHEET_ROWS_MAX + 1, 1, &s, &r->e), ERR_RANGE);
    assert_int_equal(contact_sheet_init(&d, 1, SHEET_COLUMNS_MAX + 1, &s, &r->e), ERR_RANGE);
    assert_int_equal(contact_sheet_init(&d, SHEET_ROWS_MAX, SHEET_COLUMNS_MAX, &s, &r->e), 0);
    contact_sheet_fini(&s);
}

static void test_text(void **state)
{
    char long_name[200], out[SHEET_TEXT_MAX];
    (void)state;
    contact_sheet_text("a/\xc3\xa4.png", out);
    assert_string_equal(out, "a/\xc3\xa4.png");
    contact_sheet_text("a\xff\x1b[2J", out);
    assert_string_equal(out, "a??[2J");
    memset(long_name, 'x', sizeof long_name);
    strcpy(long_name + sizeof long_name - 5, ".png");
    contact_sheet_text(long_name, out);
    assert_true(strncmp(out, "...x", 4) == 0 && strlen(out) == SHEET_TEXT_MAX - 1);
    assert_string_equal(out + SHEET_TEXT_MAX - 5, ".png");
    for (size_t i = 0; i + 1 < sizeof long_name; i++) /* two bytes a character, cut between and within */
        long_name[i] = i % 2 ? '\xa4' : '\xc3';
    long_name[sizeof long_name - 2] = '\0';
    contact_sheet_text(long_name, out);
    assert_true(memcmp(out + 3, "\xc3\xa4", 2) == 0);
    contact_sheet_text(long_name + 2, out);
    assert_true(memcmp(out + 3, "\xc3\xa4", 2) == 0);
}

static void assert_pixel(const struct image *image, uint32_t x, uint32_t y, uint8_t r, uint8_t g, uint8_t b)
{
    const uint8_t *p = image->pixels + ((size_t)y * image->size.width + x) * image->size.channels;
    assert_true(p[0] == r && p[1] == g && p[2] == b);
}

/* Two images of 32 x 16, twice and four times as large on the sheet; the third place stays white. */
static void test_pixels(void **state)
{
    struct rig *r = *state;
    uint8_t red[16 * 32 * 3] = {0}, left[16 * 32 * 3] = {0};
    const struct dataset d = {.height = 16, .width = 32, .channels = 3};
    struct contact_sheet s;
    struct buf *png;
    struct image image = {0};
    char path[160];
    for (size_t i = 0; i < 16 * 32; i++) {
        red[3 * i] = 255;
        left[3 * i + 2] = i % 32 < 16 ? 200 : 0;
    }
    assert_int_equal(contact_sheet_init(&d, 1, 3, &s, &r->e), 0);
    s.cells[0].pixels = red;
    s.cells[1].pixels = left;
    snprintf(path, sizeof path, "%s/sheet.png", r->root);
    assert_int_equal(contact_sheet_write(&s, path, &r->e), 0);
    assert_int_equal(file_read(path, 1 << 20, &png, &r->e), 0);
    assert_int_equal(image_decode(png->data, png->size, 0, &image, &r->e), 0);
    assert_true(image.size.width == 24 + 3 * 128 + 2 * 6 && image.size.height == 24 + 20 + 64 + 16);
    assert_pixel(&image, 12, 32, 255, 0, 0);
    assert_pixel(&image, 12 + 127, 32 + 63, 255, 0, 0);
    assert_pixel(&image, 12 + 128, 32, 255, 255, 255);
    assert_pixel(&image, 146, 32, 0, 0, 200);
    assert_pixel(&image, 146 + 63, 95, 0, 0, 200);
    assert_pixel(&image, 146 + 64, 95, 0, 0, 0);
    assert_pixel(&image, 300, 60, 255, 255, 255);
    image_fini(&image);
    buf_unref(&png);
    snprintf(path, sizeof path, "%s/absent/sheet.png", r->root);
    assert_int_equal(contact_sheet_write(&s, path, &r->e), ERR_NOT_FOUND);
    contact_sheet_fini(&s);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
    const struct CMUnitTest tests[] = {CASE(test_limits), CASE(test_text), CASE(test_pixels)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
