/* .npy and .npz: what their headers may and may not say, and what is read. */
#include <string.h>
#include <unistd.h>
#include <zip.h>
#include "tests/unit/worker/data_place.h"
#include "worker/data/npy_header.h"

static struct dataset_options options(const char *path)
{
    return (struct dataset_options){.path = path, .memory_bytes = 1 << 20};
}

/* Appends an array with this dictionary. Returns the size. */
static size_t npy(uint8_t *out, const char *dictionary, const void *values, size_t size)
{
    size_t length = strlen(dictionary);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (uint8_t)length;
    out[9] = (uint8_t)(length >> 8);
    memcpy(out + 10, dictionary, length);
    memcpy(out + 10 + length, values, size);
    return 10 + length + size;
}

static const uint8_t values[24] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                   13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
static const char good[] = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 2, 3), }    \n";

static void put_npy(const struct place *p, const char *dictionary, size_t size)
{
    uint8_t bytes[512];
    place_put(p, "a.npy", bytes, npy(bytes, dictionary, values, size));
}

static void refuse(const struct place *p, const char *dictionary, int code, const char *word)
{
    char path[512];
    put_npy(p, dictionary, 24);
    strcpy(path, place_path(p, "a.npy"));
    struct dataset_options o = options(path);
    expect_failure_of(&o, DATASET_TRAIN, code, word);
}

static void test_headers_that_are_refused(void **state)
{
    static const struct {
        const char *dictionary;
        int code;
        const char *word;
    } cases[] = {
        {"", ERR_FORMAT, "damaged"},
        {"{}", ERR_FORMAT, "damaged"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 2, 3)", ERR_FORMAT, "damaged"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 2, 3)} x", ERR_FORMAT, "damaged"},
        {"{'descr': '|u1', 'fortran_order': False, }", ERR_FORMAT, "damaged"},
        {"{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (4, 2, 3)}", ERR_FORMAT, "twice"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 2, 3), 'x': 1}", ERR_FORMAT, "'x'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3)}", ERR_FORMAT, "float32"},
        {"{'descr': '<u2', 'fortran_order': False, 'shape': (2, 2, 3)}", ERR_FORMAT, "uint16, expected uint8"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (1, 2, 3)}", ERR_FORMAT, "never loaded"},
        {"{'descr': '<U5', 'fortran_order': False, 'shape': (1, 2, 3)}", ERR_FORMAT, "numpy.unique"},
        {"{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (4, 2, 3)}", ERR_FORMAT, "plain"},
        {"{'descr': '|u1', 'fortran_order': True, 'shape': (4, 2, 3)}", ERR_FORMAT, "Fortran"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (24,)}", ERR_FORMAT, "1 dimensions"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3, 4, 1)}", ERR_FORMAT, "shape"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 2, 3)}", ERR_FORMAT, "shape"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 2, 3)}", ERR_FORMAT, "shape"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 2, 4)}", ERR_FORMAT, "its header says 32"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 2, 2)}", ERR_FORMAT, "its header says 16"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (4294967295, 4294967295, 4294967295)}", ERR_FORMAT,
         "header says"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 3, 1, 8)}", ERR_FORMAT, "transpose"},
        {"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 2, 3)}", ERR_FORMAT, "header says 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse(*state, cases[i].dictionary, cases[i].code, cases[i].word);
}

static void test_preambles_that_are_refused(void **state)
{
    (void)state;
    size_t preamble, length;
    struct error e;
    assert_int_equal(npy_preamble((const uint8_t *)"\x93NUMPX\1\0\0\0\0", &preamble, &length, &e), ERR_FORMAT);
    assert_int_equal(npy_preamble((const uint8_t *)"\x93NUMPY\4\0\0\0\0\0", &preamble, &length, &e), ERR_FORMAT);
    assert_int_equal(npy_preamble((const uint8_t *)"\x93NUMPY\2\0\0\0\0\xff", &preamble, &length, &e), ERR_RANGE);
    assert_int_equal(npy_preamble((const uint8_t *)"\x93NUMPY\2\0\x10\1\0\0", &preamble, &length, &e), 0);
    assert_true(preamble == 12 && length == 272);
}

static void test_every_npy_truncation(void **state)
{
    uint8_t bytes[512];
    char path[512];
    size_t size = npy(bytes, good, values, 24);
    strcpy(path, place_path(*state, "a.npy"));
    struct dataset_options o = options(path);
    for (size_t n = 0; n < size; n++) {
        place_put(*state, "a.npy", bytes, n);
        expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "a.npy");
    }
}

static void test_npy(void **state)
{
    struct dataset d;
    char path[512];
    put_npy(*state, good, 24);
    strcpy(path, place_path(*state, "a.npy"));
    struct dataset_options o = options(path);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 4 && d.height == 2 && d.width == 3 && d.channels == 1 && d.labels == NULL);
    assert_memory_equal(d.images, values, 24);
    dataset_fini(&d);
    put_npy(*state, "{'shape':(2,2,2,3),\"fortran_order\":False,'descr':'|u1'}", 24);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 2 && d.height == 2 && d.width == 2 && d.channels == 3);
    dataset_fini(&d);
    expect_failure_of(&o, DATASET_TEST, ERR_NOT_FOUND, "no labels");
    o.memory_bytes = 23;
    expect_failure_of(&o, DATASET_TRAIN, ERR_RANGE, "data.memory");
}

/* ---- .npz ---- */

struct entry {
    const char *name, *dictionary;
    const void *values;
    size_t size;
};

static void put_npz(const struct place *p, const struct entry *entries, size_t n)
{
    static uint8_t bytes[8][1024];
    int code;
    unlink(place_path(p, "a.npz"));
    zip_t *z = zip_open(place_path(p, "a.npz"), ZIP_CREATE, &code);
    assert_non_null(z);
    for (size_t i = 0; i < n; i++) {
        size_t size = npy(bytes[i], entries[i].dictionary, entries[i].values, entries[i].size);
        assert_true(zip_file_add(z, entries[i].name, zip_source_buffer(z, bytes[i], size, 0), 0) >= 0);
    }
    assert_int_equal(zip_close(z), 0);
}

static const int64_t signed_labels[4] = {2, 0, 1, 0};
static const char eight[] = "{'descr': '<i8', 'fortran_order': False, 'shape': (4,), }";

static void test_npz(void **state)
{
    static const struct entry entries[] = {
        {"x_train.npy", good, values, 24},
        {"y_train.npy", eight, signed_labels, 32},
        {"x_test.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 3), }", values + 6, 6},
        {"y_test.npy", "{'descr': '>u2', 'fortran_order': False, 'shape': (1, 1), }", "\x00\x02", 2},
    };
    struct dataset d;
    char path[512];
    put_npz(*state, entries, 4);
    strcpy(path, place_path(*state, "a.npz"));
    struct dataset_options o = options(path);
    o.holdout = 2; /* there are test images: nothing is held out */
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 4 && d.classes == 3);
    assert_memory_equal(d.images, values, 24);
    for (int i = 0; i < 4; i++)
        assert_int_equal(d.labels[i], signed_labels[i]);
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 1 && d.labels[0] == 2);
    assert_memory_equal(d.images, values + 6, 6);
    dataset_fini(&d);
    o.memory_bytes = 23; /* whatever the archive would inflate to */
    expect_failure_of(&o, DATASET_TRAIN, ERR_RANGE, "data.memory");
}

static void refuse_npz(const struct place *p, const struct entry *entries, size_t n, int code, const char *word)
{
    char path[512];
    put_npz(p, entries, n);
    strcpy(path, place_path(p, "a.npz"));
    struct dataset_options o = options(path);
    expect_failure_of(&o, DATASET_TRAIN, code, word);
}

static void test_npz_that_are_refused(void **state)
{
    static const int64_t negative[4] = {0, -1, 0, 0}, large[4] = {0, 0, 0, INT64_C(1) << 40};
    struct entry entries[] = {{"images.npy", good, values, 24}, {"labels.npy", eight, signed_labels, 32}};
    refuse_npz(*state, (struct entry[]){{"pictures.npy", good, values, 24}}, 1, ERR_FORMAT, "pictures.npy");
    entries[1].values = negative;
    refuse_npz(*state, entries, 2, ERR_FORMAT, "label -1 of image 1");
    entries[1].values = large;
    refuse_npz(*state, entries, 2, ERR_FORMAT, "of image 3");
    entries[1] = (struct entry){"labels.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", values, 3};
    refuse_npz(*state, entries, 2, ERR_FORMAT, "3 labels for 4 images");
    entries[1] = (struct entry){"labels.npy", "{'descr': '|u1', 'fortran_order': False, 'shape': (2,2), }", values, 4};
    refuse_npz(*state, entries, 2, ERR_FORMAT, "shape");
    entries[1] =
        (struct entry){"labels.npy", "{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }", negative, 32};
    refuse_npz(*state, entries, 2, ERR_FORMAT, "float64");
}

/* Every byte of an archive, damaged: an error or the same images, never others. */
static void test_damaged_npz(void **state)
{
    static const struct entry entries[] = {{"images.npy", good, values, 24}};
    uint8_t bytes[2048];
    char path[512];
    put_npz(*state, entries, 1);
    strcpy(path, place_path(*state, "a.npz"));
    FILE *f = fopen(path, "rb");
    size_t size = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    struct dataset_options o = options(path);
    for (size_t i = 0; i < size; i++) {
        struct dataset d;
        struct error e = {0};
        bytes[i] ^= 0x55;
        place_put(*state, "a.npz", bytes, size);
        bytes[i] ^= 0x55;
        if (dataset_load(&o, DATASET_TRAIN, &d, &e) == 0)
            assert_memory_equal(d.images, values, 24);
        else
            assert_true(e.text[0] != '\0');
        dataset_fini(&d);
    }
    for (size_t n = 0; n < size; n++) {
        place_put(*state, "a.npz", bytes, n);
        expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "a.npz");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_headers_that_are_refused),
        PLACE_CASE(test_preambles_that_are_refused),
        PLACE_CASE(test_every_npy_truncation),
        PLACE_CASE(test_npy),
        PLACE_CASE(test_npz),
        PLACE_CASE(test_npz_that_are_refused),
        PLACE_CASE(test_damaged_npz),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
