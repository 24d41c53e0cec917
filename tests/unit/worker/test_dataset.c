/* IDX files, and what holds for every format (hold-out, size, fingerprint): what is read, and that every way in which a
 * file can lie is an error that names it. */
#include <string.h>
#include <zlib.h>
#include "tests/unit/worker/data_place.h"

static void put(const struct place *p, const char *name, const void *bytes, size_t size)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", p->dir, name);
    size_t length = strlen(name);
    if (length > 3 && strcmp(name + length - 3, ".gz") == 0) {
        gzFile f = gzopen(path, "wb");
        assert_int_equal(gzwrite(f, bytes, (unsigned)size), size);
        gzclose(f);
        return;
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

/* Three images of 2 x 3. */
static const uint8_t images[] = {0, 0, 8, 3, 0, 0,  0,  3,  0,  0,  0,  2,  0,  0,  0,  3,  1,
                                 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26};
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 2, 0, 1};

static struct dataset_options options(const struct place *p, uint32_t limit)
{
    return (struct dataset_options){.path = p->dir, .limit = limit, .holdout = 10, .memory_bytes = UINT64_C(1) << 32};
}

static int load(const struct place *p, uint32_t limit, struct dataset *d, struct error *e)
{
    struct dataset_options o = options(p, limit);
    return dataset_load(&o, DATASET_TRAIN, d, e);
}

static void expect_failure(const struct place *p, int code, const char *word)
{
    struct dataset_options o = options(p, 0);
    expect_failure_of(&o, DATASET_TRAIN, code, word);
}

static void test_missing(void **state)
{
    struct dataset_options o = {.path = "/nowhere/at/all"};
    expect_failure_of(&o, DATASET_TRAIN, ERR_NOT_FOUND, "/nowhere/at/all");
    put(*state, "t10k-images-idx3-ubyte", images, sizeof images);
    expect_failure(*state, ERR_NOT_FOUND, "train-images-idx3-ubyte");
}

static void test_empty_file(void **state)
{
    put(*state, "train-images-idx3-ubyte", "", 0);
    expect_failure(*state, ERR_FORMAT, "truncated");
}

static void test_plain(void **state)
{
    struct dataset d;
    struct error e;
    put(*state, "train-images-idx3-ubyte", images, sizeof images);
    put(*state, "train-labels-idx1-ubyte", labels, sizeof labels);
    assert_int_equal(load(*state, 0, &d, &e), 0);
    assert_int_equal(d.count, 3);
    assert_int_equal(d.height, 2);
    assert_int_equal(d.width, 3);
    assert_int_equal(d.channels, 1);
    assert_int_equal(d.classes, 3);
    assert_memory_equal(d.images, images + 16, 18);
    for (int i = 0; i < 3; i++)
        assert_int_equal(d.labels[i], labels[8 + i]);
    dataset_fini(&d);
    assert_null(d.images);
}

static void test_gzip_and_unlabelled(void **state)
{
    struct dataset d;
    struct error e;
    put(*state, "train-images-idx3-ubyte.gz", images, sizeof images);
    assert_int_equal(load(*state, 0, &d, &e), 0);
    assert_memory_equal(d.images, images + 16, 18);
    assert_null(d.labels);
    assert_int_equal(d.classes, 0);
    dataset_fini(&d);
}

static void test_four_dimensions(void **state)
{
    static const uint8_t colour[] = {0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 9, 8, 7, 6, 5, 4};
    struct dataset d;
    struct error e;
    put(*state, "train-images-idx3-ubyte", colour, sizeof colour);
    assert_int_equal(load(*state, 0, &d, &e), 0);
    assert_int_equal(d.channels, 3);
    assert_memory_equal(d.images, colour + 20, 6);
    dataset_fini(&d);
}

static void test_limit(void **state)
{
    struct dataset d;
    struct error e;
    put(*state, "train-images-idx3-ubyte", images, sizeof images);
    put(*state, "train-labels-idx1-ubyte", labels, sizeof labels);
    assert_int_equal(load(*state, 2, &d, &e), 0);
    assert_int_equal(d.count, 2);
    assert_memory_equal(d.images, images + 16, 12);
    dataset_fini(&d);
    assert_int_equal(load(*state, 7, &d, &e), 0);
    assert_int_equal(d.count, 3);
    dataset_fini(&d);
}

static void test_wrong_magic(void **state)
{
    uint8_t bytes[sizeof images];
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {{0, 1}, {1, 1}, {2, 13}, {3, 0}, {3, 5}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memcpy(bytes, images, sizeof images);
        bytes[wrong[i].at] = wrong[i].value;
        put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
        expect_failure(*state, ERR_FORMAT, "no IDX file");
    }
}

static void test_wrong_dims(void **state)
{
    uint8_t bytes[sizeof images];
    memcpy(bytes, images, sizeof images);
    bytes[7] = 0;
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_NOT_FOUND, "no images");
    memcpy(bytes, images, sizeof images);
    bytes[11] = 0;
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_RANGE, "sides");
    memset(bytes + 4, 255, 12);
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_RANGE, "sides");
    memcpy(bytes + 8, images + 8, 8); /* 2^32 - 1 images of a sane size */
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_RANGE, "data.limit");
    memcpy(bytes + 4, "\x0f\xff\xff\xff\0\0\2\0\0\0\2\0", 12); /* 2^28 - 1 of 512 x 512: 64 TiB */
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_RANGE, "data.memory");
}

static void test_every_truncation(void **state)
{
    for (size_t size = 0; size < sizeof images; size++) {
        put(*state, "train-images-idx3-ubyte", images, size);
        expect_failure(*state, ERR_FORMAT, "train-images-idx3-ubyte: truncated");
    }
}

static void test_trailing_bytes(void **state)
{
    uint8_t bytes[sizeof images + 1] = {0};
    memcpy(bytes, images, sizeof images);
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_FORMAT, "longer than");
}

static void test_damaged_gzip(void **state)
{
    const struct place *p = *state;
    char path[256];
    put(p, "train-images-idx3-ubyte.gz", images, sizeof images);
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte.gz", p->dir);
    FILE *f = fopen(path, "r+b");
    fseek(f, -6, SEEK_END); /* inside the checksum */
    int byte = fgetc(f);
    fseek(f, -6, SEEK_END);
    fputc(byte ^ 0x55, f);
    fclose(f);
    expect_failure(p, ERR_FORMAT, "damaged");
}

static void test_labels_disagree(void **state)
{
    uint8_t bytes[sizeof labels];
    put(*state, "train-images-idx3-ubyte", images, sizeof images);
    memcpy(bytes, labels, sizeof labels);
    bytes[7] = 2;
    put(*state, "train-labels-idx1-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_FORMAT, "2 labels for 3 images");
    put(*state, "train-labels-idx1-ubyte", labels, sizeof labels - 1);
    expect_failure(*state, ERR_FORMAT, "train-labels-idx1-ubyte: truncated");
    put(*state, "train-labels-idx1-ubyte", images, sizeof images);
    expect_failure(*state, ERR_FORMAT, "expected 1");
}

/* 25 images of one pixel, the value being the number; labelled. */
static void put_numbers(const struct place *p, const char *image_name, const char *label_name)
{
    uint8_t bytes[16 + 25] = {0, 0, 8, 3, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1},
                       tags[8 + 25] = {0, 0, 8, 1, 0, 0, 0, 25};
    for (uint8_t i = 0; i < 25; i++) {
        bytes[16 + i] = i;
        tags[8 + i] = i % 2;
    }
    put(p, image_name, bytes, sizeof bytes);
    if (label_name)
        put(p, label_name, tags, sizeof tags);
}

static void test_holdout(void **state)
{
    const struct place *p = *state;
    struct dataset_options o = options(p, 0);
    struct dataset train, test;
    put_numbers(p, "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    assert_int_equal(place_load(&o, DATASET_TRAIN, &train), 0);
    assert_int_equal(place_load(&o, DATASET_TEST, &test), 0);
    assert_int_equal(train.count, 23);
    assert_int_equal(test.count, 2);
    assert_true(test.holdout == 10 && train.holdout == 10);
    assert_memory_equal(test.images, "\x09\x13", 2);
    for (uint32_t i = 0; i < train.count; i++)
        assert_true(train.images[i] != 9 && train.images[i] != 19 && train.labels[i] == train.images[i] % 2);
    dataset_fini(&train);
    dataset_fini(&test);
    o.holdout = 26;
    expect_failure_of(&o, DATASET_TEST, ERR_NOT_FOUND, "data.holdout");
    o.holdout = 0;
    expect_failure_of(&o, DATASET_TEST, ERR_NOT_FOUND, "no test images");
    o.limit = 20;
    o.holdout = 10;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &train), 0);
    assert_int_equal(train.count, 20);
    assert_int_equal(train.images[19], 21);
    dataset_fini(&train);
}

static void test_nothing_is_held_out_beside_test_images(void **state)
{
    struct dataset_options o = options(*state, 0);
    struct dataset d;
    put_numbers(*state, "train-images-idx3-ubyte", "train-labels-idx1-ubyte");
    put_numbers(*state, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    for (int split = DATASET_TRAIN; split <= DATASET_TEST; split++) {
        assert_int_equal(place_load(&o, (enum dataset_split)split, &d), 0);
        assert_int_equal(d.count, 25);
        assert_int_equal(d.holdout, 0);
        dataset_fini(&d);
    }
}

static void test_nothing_is_held_out_without_labels(void **state)
{
    struct dataset_options o = options(*state, 0);
    struct dataset d;
    put_numbers(*state, "train-images-idx3-ubyte", NULL);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.count, 25);
    dataset_fini(&d);
    expect_failure_of(&o, DATASET_TEST, ERR_NOT_FOUND, "no labels");
}

static void test_side_and_channels(void **state)
{
    struct dataset_options o = options(*state, 0);
    struct dataset d;
    put(*state, "train-images-idx3-ubyte", images, sizeof images);
    o.side = 2;
    o.channels = 3;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.height == 2 && d.width == 2 && d.channels == 3);
    /* the middle of 1 2 3 is halfway between its neighbours */
    assert_memory_equal(d.images, "\2\2\2\3\3\3\5\5\5\6\6\6", 12);
    dataset_fini(&d);
}

static void test_fingerprint(void **state)
{
    struct dataset a, b;
    struct error e;
    put(*state, "train-images-idx3-ubyte", images, sizeof images);
    put(*state, "train-labels-idx1-ubyte", labels, sizeof labels);
    assert_int_equal(load(*state, 0, &a, &e), 0);
    assert_int_equal(load(*state, 0, &b, &e), 0);
    uint64_t whole = dataset_fingerprint(&a);
    assert_true(dataset_fingerprint(&b) == whole);
    b.images[17]++;
    assert_true(dataset_fingerprint(&b) != whole);
    b.images[17]--;
    b.labels[2] = 0;
    assert_true(dataset_fingerprint(&b) != whole);
    b.labels[2] = a.labels[2];
    b.height = 3;
    b.width = 2;
    assert_true(dataset_fingerprint(&b) != whole);
    dataset_fini(&a);
    dataset_fini(&b);
}

static void test_moments(void **state)
{
    (void)state;
    uint8_t pixels[4] = {0, 255, 0, 255};
    struct dataset d = {.count = 2, .height = 1, .width = 2, .channels = 1, .images = pixels};
    struct dataset_moments m;
    assert_int_equal(dataset_measure(&d, &m, NULL), 0);
    assert_true(m.mean == 0.5 && m.deviation == 0.5 && m.channel_mean[0] == 0.5 && m.channel_deviation[0] == 0.5);
    d = (struct dataset){.count = 1, .height = 1, .width = 2, .channels = 2, .images = pixels}; /* 0 and 255 */
    assert_int_equal(dataset_measure(&d, &m, NULL), 0);
    assert_true(m.mean == 0.5 && m.deviation == 0.5);
    assert_true(m.channel_mean[0] == 0 && m.channel_mean[1] == 1 && m.channel_deviation[1] == 0);
}

#define CASE(f) PLACE_CASE(f)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_missing),
        CASE(test_empty_file),
        CASE(test_plain),
        CASE(test_limit),
        CASE(test_gzip_and_unlabelled),
        CASE(test_four_dimensions),
        CASE(test_wrong_magic),
        CASE(test_wrong_dims),
        CASE(test_every_truncation),
        CASE(test_trailing_bytes),
        CASE(test_damaged_gzip),
        CASE(test_labels_disagree),
        CASE(test_holdout),
        CASE(test_nothing_is_held_out_beside_test_images),
        CASE(test_nothing_is_held_out_without_labels),
        CASE(test_side_and_channels),
        CASE(test_fingerprint),
        CASE(test_moments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
