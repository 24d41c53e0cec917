/* Sets that are nearly right: each is named with what to do. */
#include "tests/unit/worker/data_place.h"

static struct dataset_options options(const struct place *p)
{
    return (struct dataset_options){.path = p->dir, .memory_bytes = 1 << 24};
}

static void expect(struct place *p, int code, const char *word)
{
    struct dataset_options o = options(p);
    expect_failure_of(&o, DATASET_TRAIN, code, word);
    nftw(p->dir, place_remove, 16, FTW_DEPTH | FTW_PHYS);
    mkdir(p->dir, 0755);
}

static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 99, 199, 4};
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 0, 1};

static void test_near_names_of_idx_files(void **state)
{
    static const char *const near[] = {"train-images.idx3-ubyte",
                                       "train-images.idx3-ubyte.gz",
                                       "train_images_idx3_ubyte",
                                       "Train-Images-IDX3-ubyte",
                                       "emnist-letters-train-images-idx3-ubyte.gz",
                                       "train-images-idx3-ubyte (1).gz",
                                       "train-images.ubyte"};
    for (size_t i = 0; i < sizeof near / sizeof near[0]; i++) {
        place_put(*state, near[i], images, sizeof images);
        expect(*state, ERR_NOT_FOUND, "read under the name train-images-idx3-ubyte");
    }
    place_put(*state, "t10k-images.idx3-ubyte", images, sizeof images);
    expect(*state, ERR_NOT_FOUND, "read under the name t10k-images-idx3-ubyte");
    place_put(*state, "t10k-images-idx3-ubyte", images, sizeof images);
    place_put(*state, "train-images.idx3-ubyte", images, sizeof images);
    expect(*state, ERR_NOT_FOUND, "train-images.idx3-ubyte looks like");
    place_put(*state, "train-images.txt", images, sizeof images);
    expect(*state, ERR_NOT_FOUND, "no PNG");
}

/* A set that loads without its labels or test images, which are there under near names. */
static void test_near_names_beside_right_ones(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    place_put(*state, "train-images-idx3-ubyte", images, sizeof images);
    place_put(*state, "train-labels.idx1-ubyte", labels, sizeof labels);
    place_put(*state, "t10k-images.idx3-ubyte", images, sizeof images);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.labels == NULL && d.problem_count == 2);
    expect_problem(&d, "train-labels.idx1-ubyte is not read: labels are read under the name train-labels-idx1-ubyte");
    expect_problem(&d, "t10k-images.idx3-ubyte is not read: test images");
    dataset_fini(&d);
}

static void test_a_page_instead_of_a_file(void **state)
{
    static const char page[] = "<!DOCTYPE html><html><body>404 Not Found</body></html>";
    place_put(*state, "train-images-idx3-ubyte.gz", page, sizeof page - 1);
    expect(*state, ERR_FORMAT, "no IDX file of unsigned bytes but a page of a web site");
    place_put(*state, "a/1.png", page, sizeof page - 1);
    expect(*state, ERR_FORMAT, "an HTML page");
}

static void test_pickles(void **state)
{
    place_put(*state, "data_batch_1", "\x80\x02}", 3);
    place_put(*state, "batches.meta", "\x80\x02}", 3);
    expect(*state, ERR_NOT_FOUND, "cifar-10-binary.tar.gz");
    place_put(*state, "cifar-10-batches-py/test_batch", "\x80\x02}", 3);
    expect(*state, ERR_NOT_FOUND, "data_batch_1.bin");
    place_put(*state, "cifar-100-python/train", "\x80\x02}", 3);
    place_put(*state, "cifar-100-python/meta", "\x80\x02}", 3);
    expect(*state, ERR_NOT_FOUND, "cifar-100-binary.tar.gz");
}

static void test_wrapping_folders(void **state)
{
    place_put(*state, "MNIST/raw/train-images-idx3-ubyte", images, sizeof images);
    expect(*state, ERR_NOT_FOUND, "/MNIST/raw");
    place_put(*state, "cifar-10-batches-bin/data_batch_1.bin", images, sizeof images);
    expect(*state, ERR_NOT_FOUND, "lie further in: name ");
    place_put(*state, "x/set.npz", "PK\3\4", 4);
    expect(*state, ERR_NOT_FOUND, "/x/set.npz is a NumPy archive; name the file itself");
    place_put(*state, "1/2/3/4/5/train-images-idx3-ubyte", images, sizeof images); /* too deep to look for */
    expect(*state, ERR_NOT_FOUND, "no PNG");
}

static void test_other_formats(void **state)
{
    static const char *const names[][2] = {{"images.TAR.gz", "unpack"}, {"part-0.parquet", "Parquet"},
                                           {"a/b/train.h5", "HDF5"},    {"x.pt", "PyTorch"},
                                           {"lmdb/data.mdb", "LMDB"},   {"train.tfrecord", "TFRecord"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        place_put(*state, names[i][0], "x", 1);
        expect(*state, ERR_NOT_FOUND, names[i][1]);
    }
    place_put(*state, "a/1.gif", "GIF89a", 6); /* an image, but of none of the formats that are read */
    expect(*state, ERR_NOT_FOUND, "1 file named .gif is not read");
}

static void test_files(void **state)
{
    static uint8_t tar[512];
    memcpy(tar + 257, "ustar", 5);
    const struct {
        const char *name;
        const void *bytes;
        size_t size;
        const char *word;
    } cases[] = {
        {"a.npz", "<html>", 6, "an HTML page"},
        {"a.png", "\x89PNG\r\n\x1a\n", 8, "is one image (PNG)"},
        {"set", tar, sizeof tar, "an archive"},
        {"train-images-idx3-ubyte", images, sizeof images, "one file of an IDX set"},
        {"train-images-idx3-ubyte.gz", "\x1f\x8b\x08", 3, "one file of an IDX set"},
        {"set.pkl", "\x80\x02", 2, "never loaded"},
        {"set.txt", "hello", 5, "no image set"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char path[512];
        struct dataset_options o = options(*state);
        place_put(*state, cases[i].name, cases[i].bytes, cases[i].size);
        strcpy(path, place_path(*state, cases[i].name));
        o.path = path;
        expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, cases[i].word);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_near_names_of_idx_files),
        PLACE_CASE(test_near_names_beside_right_ones),
        PLACE_CASE(test_a_page_instead_of_a_file),
        PLACE_CASE(test_pickles),
        PLACE_CASE(test_wrapping_folders),
        PLACE_CASE(test_other_formats),
        PLACE_CASE(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
