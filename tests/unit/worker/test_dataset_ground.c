/* What transparency is composited on, and sets in which nothing is to be seen. */
#include <webp/encode.h>
#include "tests/unit/worker/data_place.h"
#include "worker/data/ground.h"

enum { SIDE = 6 };

static struct dataset_options options(const struct place *p)
{
    return (struct dataset_options){.path = p->dir, .memory_bytes = 1 << 24, .channels = 1};
}

/* A transparent image with a square of this grey in it; alpha of the square. */
static void put_drawing(const struct place *p, const char *name, uint8_t grey, uint8_t alpha)
{
    uint8_t pixels[SIDE * SIDE * 2] = {0};
    for (int y = 1; y < 3; y++)
        for (int x = 1; x < 4; x++) {
            pixels[2 * (y * SIDE + x)] = grey;
            pixels[2 * (y * SIDE + x) + 1] = alpha;
        }
    place_png(p, name, pixels, SIDE, SIDE, 2);
}

/* Loads both splits; the corner and the square of the first image of each. */
static void expect_pixels(const struct dataset_options *o, uint8_t corner, uint8_t square)
{
    for (int split = DATASET_TRAIN; split <= DATASET_TEST; split++) {
        struct dataset d;
        assert_int_equal(place_load(o, (enum dataset_split)split, &d), 0);
        assert_int_equal(d.images[0], corner);
        assert_int_equal(d.images[SIDE + 1], square);
        dataset_fini(&d);
    }
}

static void test_votes(void **state)
{
    (void)state;
    struct ground g = {0};
    const struct image_size grey = {1, 4, 2}, colour = {1, 1, 4}, opaque = {1, 4, 1};
    assert_int_equal(ground_choice(&g), GROUND_BLACK);
    ground_vote(&g, (const uint8_t *)"\0\0\0\0", &opaque);
    ground_vote(&g, (const uint8_t *)"\0\xff\0\xff\0\xff\0\xff", &grey); /* no pixel of it is transparent */
    assert_true(g.images == 0 && g.opaque == 0);
    ground_vote(&g, (const uint8_t *)"\0\xff\x3f\x80\x40\xff\0\x7f", &grey);
    assert_true(g.images == 1 && g.opaque == 3 && g.dark == 2);
    assert_int_equal(ground_choice(&g), GROUND_WHITE);
    ground_vote(&g, (const uint8_t *)"\xff\xff\xff\xfe", &colour);
    assert_true(g.images == 2 && g.opaque == 4 && g.dark == 2); /* a half is no majority */
    assert_int_equal(ground_choice(&g), GROUND_BLACK);
}

/* What the first bytes of files tell, against what is in them. */
static void test_what_may_matter(void **state)
{
    static const uint32_t formats[] = {PNG_FORMAT_GRAY, PNG_FORMAT_GA,           PNG_FORMAT_RGB,
                                       PNG_FORMAT_RGBA, PNG_FORMAT_RGB_COLORMAP, PNG_FORMAT_RGBA_COLORMAP};
    uint8_t pixels[16] = {0, 1, 2, 3}, colours[256 * 4] = {0}, png[4096], *webp;
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        png_image image = {
            .version = PNG_IMAGE_VERSION, .width = 2, .height = 2, .format = formats[i], .colormap_entries = 4};
        png_alloc_size_t size = sizeof png;
        assert_true(png_image_write_to_memory(&image, png, &size, 0, pixels, 0, colours));
        assert_int_equal(ground_may_matter(png, size), i == 1 || i == 3 || i == 5);
        assert_true(ground_may_matter(png, 20)); /* not known yet */
        for (size_t n = 0; n < size; n++) {
            uint8_t *exact = malloc(n ? n : 1);
            memcpy(exact, png, n);
            (void)ground_may_matter(exact, n); /* stays within them */
            free(exact);
        }
    }
    pixels[3] = 9;
    for (int alpha = 0; alpha < 2; alpha++) {
        size_t size =
            alpha ? WebPEncodeLosslessRGBA(pixels, 2, 2, 8, &webp) : WebPEncodeLosslessRGB(pixels, 2, 2, 6, &webp);
        assert_int_equal(ground_may_matter(webp, size), alpha);
        WebPFree(webp);
        size = alpha ? WebPEncodeRGBA(pixels, 2, 2, 8, 90, &webp) : WebPEncodeRGB(pixels, 2, 2, 6, 90, &webp);
        assert_int_equal(ground_may_matter(webp, size), alpha);
        WebPFree(webp);
    }
    assert_false(ground_may_matter((const uint8_t *)"\xff\xd8\xff\xe0", 4));
    assert_false(ground_may_matter((const uint8_t *)"", 0));
}

static void test_each_background(void **state)
{
    struct dataset_options o = options(*state);
    put_drawing(*state, "train/1.png", 20, 255);
    put_drawing(*state, "test/1.png", 250, 255); /* the training images decide for both */
    struct dataset d;
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.images[0] == 255 && d.images[SIDE + 1] == 250);
    dataset_fini(&d);
    put_drawing(*state, "test/1.png", 20, 255);
    expect_pixels(&o, 255, 20);
    o.background = BACKGROUND_BLACK;
    expect_pixels(&o, 0, 20);
    o.background = BACKGROUND_GREY;
    expect_pixels(&o, 128, 20);
    o.background = BACKGROUND_WHITE;
    expect_pixels(&o, 255, 20);
}

/* Light drawings, and one dark one among them. */
static void test_black_is_kept_for_light_drawings(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_drawing(*state, "1.png", 200, 255);
    put_drawing(*state, "2.png", 200, 255);
    put_drawing(*state, "3.png", 0, 255);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.images[0] == 0 && d.images[SIDE + 1] == 200 && d.note_count == 2); /* the third is black throughout */
    assert_non_null(strstr(d.notes[0], "composited on black"));
    assert_non_null(strstr(d.notes[1], "1 images are of one colour throughout, the first is image 2"));
    dataset_fini(&d);
}

/* Whatever data.limit and data.holdout leave of the training images, the choice is that of all of them. */
static void test_the_choice_is_that_of_the_whole_set(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_drawing(*state, "a/1.png", 200, 255);
    put_drawing(*state, "a/2.png", 0, 255);
    put_drawing(*state, "a/3.png", 0, 255);
    o.limit = 1;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.images[0], 255);
    dataset_fini(&d);
    o.holdout = 3;
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 1 && d.images[0] == 255);
    dataset_fini(&d);
}

static void put_idx(const struct place *p, const char *name, uint8_t grey)
{
    uint8_t bytes[20 + 2 * 4 * 2] = {0, 0, 8, 4, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2};
    for (int i = 0; i < 8; i++) { /* the first and last pixel of each image are transparent */
        bytes[20 + 2 * i] = grey;
        bytes[21 + 2 * i] = i % 4 == 0 || i % 4 == 3 ? 0 : 255;
    }
    place_put(p, name, bytes, sizeof bytes);
}

static void test_arrays(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_idx(*state, "train-images-idx3-ubyte", 10);
    put_idx(*state, "t10k-images-idx3-ubyte", 240);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_memory_equal(d.images, "\xff\x0a\x0a\xff\xff\x0a\x0a\xff", 8);
    assert_non_null(strstr(d.notes[0], "composited on white"));
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_memory_equal(d.images, "\xff\xf0\xf0\xff", 4);
    dataset_fini(&d);
    o.channels = 0; /* alpha stays a channel */
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.channels == 2 && d.note_count == 0);
    assert_memory_equal(d.images, "\x0a\x00\x0a\xff", 4);
    dataset_fini(&d);
}

static void test_nothing_to_see(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_drawing(*state, "1.png", 0, 255);
    put_drawing(*state, "2.png", 0, 255);
    o.background = BACKGROUND_BLACK;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    expect_problem(&d, "all images are constant: every value of every pixel is 0");
    dataset_fini(&d);
    place_flat_png(*state, "3.png", SIDE, SIDE, 9, 9, 9);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    expect_problem(&d, "each image is of one colour");
    dataset_fini(&d);
    uint8_t bits[SIDE * SIDE] = {0, 1, 1};
    for (int i = 1; i <= 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d.png", i);
        place_png(*state, name, bits, SIDE, SIDE, 1);
    }
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    expect_problem(&d, "all values lie in 0..1 of 0..255");
    dataset_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_votes),
        cmocka_unit_test(test_what_may_matter),
        PLACE_CASE(test_each_background),
        PLACE_CASE(test_black_is_kept_for_light_drawings),
        PLACE_CASE(test_the_choice_is_that_of_the_whole_set),
        PLACE_CASE(test_arrays),
        PLACE_CASE(test_nothing_to_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
