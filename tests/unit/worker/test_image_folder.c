/* Directories of image files: empty and hostile ones first, then classes, splits, order, sizes. */
#include "tests/unit/worker/data_place.h"
#include <string.h>
#include <unistd.h>

static struct dataset_options options(const struct place *p)
{
    return (struct dataset_options){.path = p->dir, .memory_bytes = 1 << 24};
}

/* A grey PNG of one pixel with this value. */
static void put_dot(const struct place *p, const char *name, uint8_t value)
{
    place_png(p, name, &value, 1, 1, 1);
}

static void test_empty(void **state)
{
    struct dataset_options o = options(*state);
    expect_failure_of(&o, DATASET_TRAIN, ERR_NOT_FOUND, "no PNG, JPEG, WebP");
    place_put(*state, "cat/notes.txt", "x", 1);
    expect_failure_of(&o, DATASET_TRAIN, ERR_NOT_FOUND, "no PNG, JPEG, WebP");
    place_put(*state, "train/x", "x", 1);
    expect_failure_of(&o, DATASET_TRAIN, ERR_NOT_FOUND, "/train: no PNG");
}

static void test_nothing_readable(void **state)
{
    struct dataset_options o = options(*state);
    place_put(*state, "a.png", "", 0);
    place_put(*state, "b.jpg", "hello", 5);
    expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "none of 2 images");
    o.side = 8;
    o.channels = 1;
    expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "a.png: an empty file");
}

static void test_flat(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    o.holdout = 2; /* no labels: nothing is held out */
    put_dot(*state, "b.png", 2);
    put_dot(*state, "a.PNG", 1);
    put_dot(*state, "Z.png", 3);
    put_dot(*state, "\xc3\xa4.png", 4); /* bytes beyond ASCII come last */
    put_dot(*state, ".hidden.png", 5);
    place_put(*state, "README", "x", 1);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 4 && d.labels == NULL && d.problem_count == 0 && d.height == 1 && d.channels == 1);
    assert_memory_equal(d.images, "\3\1\2\4", 4);
    dataset_fini(&d);
    expect_failure_of(&o, DATASET_TEST, ERR_NOT_FOUND, "no labels");
}

static void test_classes(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "dog/1.png", 10);
    put_dot(*state, "cat/2.png", 21);
    put_dot(*state, "cat/1.png", 20);
    put_dot(*state, "cat/sub/0.png", 22);
    put_dot(*state, "Ant/1.png", 30);
    put_dot(*state, "loose.png", 99);
    mkdir(place_path(*state, "empty"), 0755);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 5 && d.classes == 3 && d.skipped == 1);
    assert_string_equal(d.class_names[0], "Ant");
    assert_string_equal(d.class_names[2], "dog");
    assert_memory_equal(d.images, "\x1e\x14\x0a\x15\x16", 5); /* the first of each class, then the second ... */
    static const uint16_t labels[] = {0, 1, 2, 1, 1};
    assert_memory_equal(d.labels, labels, sizeof labels);
    expect_problem(&d, "empty");
    expect_problem(&d, "1 images beside the class folders");
    assert_int_equal(d.problem_count, 2);
    dataset_fini(&d);
    o.limit = 3;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_memory_equal(d.images, "\x1e\x14\x0a", 3);
    dataset_fini(&d);
    o.limit = 0;
    o.loose = true; /* whoever wants all images gets them, without labels */
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 6 && d.classes == 0 && d.labels == NULL && d.class_names == NULL && d.skipped == 0);
    expect_problem(&d, "empty");
    assert_int_equal(d.problem_count, 1);
    dataset_fini(&d);
}

static void test_holdout_in_each_class(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset train, test;
    char name[32];
    for (int i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "a/%d.png", i);
        put_dot(*state, name, (uint8_t)i);
        snprintf(name, sizeof name, "b/%d.png", i);
        put_dot(*state, name, (uint8_t)(100 + i));
    }
    o.holdout = 5;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &train), 0);
    assert_int_equal(place_load(&o, DATASET_TEST, &test), 0);
    assert_true(train.count == 16 && test.count == 4 && test.holdout == 5 && test.classes == 2);
    assert_memory_equal(test.images, "\x04\x68\x09\x6d", 4);
    for (uint32_t i = 0; i < train.count; i++)
        assert_true(train.images[i] % 100 % 5 != 4);
    dataset_fini(&train);
    dataset_fini(&test);
}

static void test_splits(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    o.holdout = 2;
    put_dot(*state, "train/a/1.png", 1);
    put_dot(*state, "train/a/2.png", 2);
    put_dot(*state, "train/c/1.png", 3);
    put_dot(*state, "val/b/1.png", 4); /* unknown to the training images */
    put_dot(*state, "val/c/1.png", 5);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 3 && d.classes == 2);
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 1 && d.images[0] == 5 && d.labels[0] == 1 && d.classes == 2 && d.holdout == 0);
    expect_problem(&d, "val/b");
    dataset_fini(&d);
    put_dot(*state, "test/a/1.png", 6); /* test/ goes before val/ */
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 1 && d.images[0] == 6 && d.labels[0] == 0);
    dataset_fini(&d);
}

static void test_bad_files_are_left_out(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "a/1.png", 1);
    place_put(*state, "a/2.png", "\x89PNG\r\n\x1a\nno", 10);
    put_dot(*state, "a/3.png", 3);
    place_put(*state, "b/1.jpg", "\xff\xd8\xff\xe0", 4);
    put_dot(*state, "b/2.png", 5);
    place_put(*state, "b/3.bmp", "RIFF", 4);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 3 && d.skipped == 3 && d.problem_count == 3 && d.classes == 2);
    assert_memory_equal(d.images, "\1\5\3", 3);
    assert_true(d.labels[0] == 0 && d.labels[1] == 1 && d.labels[2] == 0);
    expect_problem(&d, "1 file named .bmp is not read (b/3.bmp)");
    expect_problem(&d, "a/2.png: PNG: truncated");
    expect_problem(&d, "b/1.jpg: JPEG");
    dataset_fini(&d);
}

static void test_problems_are_counted_beyond_the_limit(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    char name[32];
    put_dot(*state, "0.png", 7);
    for (int i = 0; i < DATASET_PROBLEMS_MAX + 20; i++) {
        snprintf(name, sizeof name, "x%d.png", i);
        place_put(*state, name, "x", 1);
    }
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 1 && d.skipped == DATASET_PROBLEMS_MAX + 20);
    assert_int_equal(d.problem_count, DATASET_PROBLEMS_MAX + 20);
    dataset_fini(&d);
}

static void test_links_and_things_that_are_no_files(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    char target[512];
    put_dot(*state, "a/1.png", 1);
    strcpy(target, place_path(*state, "a/1.png"));
    assert_int_equal(symlink(target, place_path(*state, "a/2.png")), 0); /* a link to a file is a file */
    assert_int_equal(symlink("..", place_path(*state, "a/up")), 0);
    assert_int_equal(symlink("self", place_path(*state, "a/self")), 0);
    assert_int_equal(symlink("nowhere", place_path(*state, "a/3.png")), 0);
    assert_int_equal(mkfifo(place_path(*state, "a/4.png"), 0644), 0);
    mkdir(place_path(*state, "a/5.png"), 0755);
    place_put(*state, "a/1/2/3/4/5/6/7/8/9/x.png", "", 0);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 2 && d.skipped == 0);
    expect_problem(&d, "a/up: a link to a folder");
    expect_problem(&d, "a/self: ");
    expect_problem(&d, "a/3.png: No such file");
    expect_problem(&d, "a/4.png: not a regular file");
    expect_problem(&d, "too deep");
    dataset_fini(&d);
}

static void test_sizes(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    uint8_t rgba[4] = {200, 100, 50, 255};
    place_flat_png(*state, "a.png", 10, 20, 9, 8, 7);
    place_flat_png(*state, "b.png", 40, 30, 1, 2, 3);
    put_dot(*state, "c.png", 77);
    place_png(*state, "d.png", rgba, 1, 1, 4);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 4 && d.height == 10 && d.width == 20 && d.channels == 3);
    assert_memory_equal(d.images + 1 * 600, "\1\2\3\1\2\3", 6);
    assert_memory_equal(d.images + 2 * 600, "\x4d\x4d\x4d", 3);
    assert_memory_equal(d.images + 3 * 600, rgba, 3);
    dataset_fini(&d);
    o.side = 16;
    o.channels = 1;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.height == 16 && d.width == 16 && d.channels == 1);
    assert_true(d.images[0] == 8 && d.images[256] == 2 && d.images[512] == 77);
    dataset_fini(&d);
    o.memory_bytes = 4 * 256 - 1;
    expect_failure_of(&o, DATASET_TRAIN, ERR_RANGE, "data.memory");
}

static void test_too_large_without_a_side(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    place_flat_png(*state, "a.png", 700, 600, 9, 8, 7);
    expect_failure_of(&o, DATASET_TRAIN, ERR_RANGE, "data.side");
    o.side = 32;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_memory_equal(d.images + 32 * 32 * 3 - 3, "\x09\x08\x07", 3);
    dataset_fini(&d);
}

/* The size of test images is that of the first training image. */
static void test_size_of_the_test_split(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    place_flat_png(*state, "train/a/1.png", 6, 6, 1, 1, 1);
    place_flat_png(*state, "test/a/1.png", 9, 12, 200, 200, 200);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.height == 6 && d.width == 6 && d.images[0] == 200);
    dataset_fini(&d);
}

static void test_many_jpegs_are_the_same_each_time(void **state)
{
    enum { SIDE = 48, FILES = 40 };
    struct dataset_options o = options(*state);
    struct dataset a, b;
    uint8_t pixels[SIDE * SIDE * 3];
    char name[32];
    for (int i = 0; i < FILES; i++) {
        unsigned long size;
        for (size_t j = 0; j < sizeof pixels; j++)
            pixels[j] = (uint8_t)(j * (size_t)(i + 3) / 7);
        uint8_t *jpeg = jpeg_bytes(pixels, SIDE, SIDE, 3, i % 2 ? JPEG_PROGRESSIVE : JPEG_BASELINE, &size);
        snprintf(name, sizeof name, "%c/%d.jpeg", 'a' + i % 3, i);
        place_put(*state, name, jpeg, size);
        free(jpeg);
    }
    o.side = 11;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &a), 0);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &b), 0);
    assert_true(a.count == FILES && a.classes == 3);
    assert_true(dataset_fingerprint(&a) == dataset_fingerprint(&b));
    dataset_fini(&a);
    dataset_fini(&b);
}

/* Names go with their images, whatever is left out, and only to who asks. */
static void test_names(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "train/b/1.png", 1);
    place_put(*state, "train/b/2.png", "damaged", 7);
    put_dot(*state, "train/b/3.png", 3);
    put_dot(*state, "val/b/9.png", 9);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_null(d.names);
    dataset_fini(&d);
    o.names = true;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 2 && d.images[0] == 1 && d.images[1] == 3);
    assert_string_equal(d.names[0], "train/b/1.png");
    assert_string_equal(d.names[1], "train/b/3.png");
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_string_equal(d.names[0], "val/b/9.png");
    dataset_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_empty),
        PLACE_CASE(test_nothing_readable),
        PLACE_CASE(test_flat),
        PLACE_CASE(test_classes),
        PLACE_CASE(test_holdout_in_each_class),
        PLACE_CASE(test_splits),
        PLACE_CASE(test_bad_files_are_left_out),
        PLACE_CASE(test_problems_are_counted_beyond_the_limit),
        PLACE_CASE(test_links_and_things_that_are_no_files),
        PLACE_CASE(test_sizes),
        PLACE_CASE(test_too_large_without_a_side),
        PLACE_CASE(test_size_of_the_test_split),
        PLACE_CASE(test_names),
        PLACE_CASE(test_many_jpegs_are_the_same_each_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
