/* IDX files: what is read, and that every way in which a file can lie is an error that names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <zlib.h>
#include "worker/data/dataset.h"

struct place {
    char dir[64];
};

static int setup(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    strcpy(p->dir, "/tmp/decant-dataset-XXXXXX");
    *state = p;
    return mkdtemp(p->dir) ? 0 : -1;
}

static int teardown(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz",
                                        "train-labels-idx1-ubyte"};
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/%s", p->dir, names[i]);
        unlink(path);
    }
    rmdir(p->dir);
    free(p);
    return 0;
}

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

static int load(const struct place *p, uint32_t limit, struct dataset *d, struct error *e)
{
    return dataset_load(p->dir, DATASET_TRAIN, limit, d, e);
}

static void expect_failure(const struct place *p, int code, const char *word)
{
    struct dataset d;
    struct error e = {0};
    assert_int_equal(load(p, 0, &d, &e), code);
    assert_null(d.images);
    assert_null(d.labels);
    if (strstr(e.text, word) == NULL)
        fail_msg("'%s' does not say '%s'", e.text, word);
}

static void test_missing(void **state)
{
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
    assert_memory_equal(d.labels, labels + 8, 3);
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
    expect_failure(*state, ERR_FORMAT, "no images");
    memcpy(bytes, images, sizeof images);
    bytes[11] = 0;
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_RANGE, "sides");
    memset(bytes + 4, 255, 12);
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_RANGE, "sides");
    memcpy(bytes + 8, images + 8, 8); /* 2^32 - 1 images of a sane size */
    put(*state, "train-images-idx3-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_RANGE, "4 GiB");
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
    memcpy(bytes, labels, sizeof labels);
    bytes[9] = 100;
    put(*state, "train-labels-idx1-ubyte", bytes, sizeof bytes);
    expect_failure(*state, ERR_FORMAT, "label 100 of image 1");
    put(*state, "train-labels-idx1-ubyte", labels, sizeof labels - 1);
    expect_failure(*state, ERR_FORMAT, "train-labels-idx1-ubyte: truncated");
    put(*state, "train-labels-idx1-ubyte", images, sizeof images);
    expect_failure(*state, ERR_FORMAT, "expected 1");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_missing),        CASE(test_empty_file),          CASE(test_plain),
        CASE(test_limit),          CASE(test_gzip_and_unlabelled), CASE(test_four_dimensions),
        CASE(test_wrong_magic),    CASE(test_wrong_dims),          CASE(test_every_truncation),
        CASE(test_trailing_bytes), CASE(test_damaged_gzip),        CASE(test_labels_disagree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
