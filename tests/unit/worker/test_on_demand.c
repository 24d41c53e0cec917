/* Sets that are not kept (data.cache = none): the same set as in memory, in every format, read in any order and by many
 * threads; what is gone or has changed since the first look is an error that names it. */
#include "tests/unit/worker/data_place.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include <zip.h>
#include "worker/data/image_feed.h"
#include "worker/data/image_source.h"

static struct dataset_options options_of(const char *path, bool on_demand)
{
    return (struct dataset_options){.path = path,
                                    .side = 8,
                                    .channels = 3,
                                    .holdout = 3,
                                    .memory_bytes = on_demand ? 1 : 0,
                                    .on_demand = on_demand};
}

static void assert_same_images(const struct dataset *a, const struct dataset *b)
{
    size_t bytes = dataset_image_bytes(a);
    uint8_t *scratch = malloc(bytes);
    const uint8_t *x, *y;
    struct error e;
    assert_int_equal(dataset_image_bytes(b), bytes);
    for (uint32_t i = a->count; i-- > 0;) {
        assert_int_equal(dataset_image(a, i, NULL, &x, &e), 0);
        assert_int_equal(dataset_image(b, i, scratch, &y, &e), 0);
        assert_memory_equal(x, y, bytes);
    }
    free(scratch);
}

/* Labels, names of classes, notes, problems and every image are as in memory. */
static void assert_same(const struct dataset *a, const struct dataset *b)
{
    assert_true(a->images != NULL && b->images == NULL && b->source != NULL);
    assert_true(dataset_fingerprint(a) == dataset_fingerprint(b));
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->classes, b->classes);
    assert_int_equal(a->holdout, b->holdout);
    assert_int_equal(a->skipped, b->skipped);
    assert_memory_equal(&a->sizes, &b->sizes, sizeof a->sizes);
    assert_int_equal(a->labels != NULL, b->labels != NULL);
    if (a->labels)
        assert_memory_equal(a->labels, b->labels, a->count * sizeof *a->labels);
    assert_int_equal(a->note_count, b->note_count);
    for (uint32_t i = 0; i < a->note_count; i++)
        assert_string_equal(a->notes[i], b->notes[i]);
    assert_int_equal(a->problem_count, b->problem_count);
    for (uint32_t i = 0; i < a->problem_count; i++)
        assert_string_equal(a->problems[i], b->problems[i]);
    assert_same_images(a, b);
}

static void check_split(struct dataset_options kept, enum dataset_split split, uint32_t count)
{
    struct dataset a, b;
    struct dataset_options on_demand = kept;
    on_demand.on_demand = true;
    on_demand.memory_bytes = 1;
    assert_int_equal(place_load(&kept, split, &a), 0);
    assert_int_equal(place_load(&on_demand, split, &b), 0);
    assert_int_equal(a.count, count);
    assert_same(&a, &b);
    dataset_fini(&a);
    dataset_fini(&b);
}

static void check(const char *path, uint32_t train, uint32_t test)
{
    check_split(options_of(path, false), DATASET_TRAIN, train);
    check_split(options_of(path, false), DATASET_TEST, test);
}

/* Eleven pictures of unlike size, from a seed. */
static void put_photo(const struct place *p, const char *name, uint8_t seed)
{
    uint32_t H = 6 + seed % 5, W = 7 + seed % 3;
    uint8_t pixels[10 * 9 * 3];
    for (uint32_t i = 0; i < H * W * 3; i++)
        pixels[i] = (uint8_t)(i * 37 + seed * 11 + i * i / 7);
    place_png(p, name, pixels, H, W, 3);
}

static void put_folder(const struct place *p, const char *root, bool damaged)
{
    char name[64];
    for (uint8_t i = 0; i < 11; i++) {
        snprintf(name, sizeof name, "%s/%s/%02u.png", root, i % 2 ? "cat" : "dog", i);
        put_photo(p, name, i);
    }
    snprintf(name, sizeof name, "%s/dog/flat.png", root);
    place_flat_png(p, name, 8, 8, 9, 9, 9);
    snprintf(name, sizeof name, "%s/cat/00bad.png", root);
    if (damaged)
        place_put(p, name, "x", 1);
}

static void test_folders(void **state)
{
    const struct place *p = *state;
    put_folder(p, "whole", false);
    check(place_path(p, "whole"), 9, 3);
    put_folder(p, "damaged", true); /* images move up, and the fingerprint is another than expected */
    check(place_path(p, "damaged"), 8, 4);
    struct dataset_options o = options_of(place_path(p, "damaged"), false);
    o.limit = 4;
    check_split(o, DATASET_TRAIN, 3);
}

static void put_idx(const struct place *p, const char *images, const char *labels, uint8_t n)
{
    uint8_t header[16] = {0, 0, 8, 3, 0, 0, 0, n, 0, 0, 0, 4, 0, 0, 0, 5}, bytes[16 + 20 * 255],
            label[8 + 255] = {0, 0, 8, 1, 0, 0, 0, n};
    memcpy(bytes, header, sizeof header);
    for (unsigned i = 0; i < n * 20u; i++)
        bytes[16 + i] = (uint8_t)(i * 13 + i / 9);
    for (unsigned i = 0; i < n; i++)
        label[8 + i] = (uint8_t)(i % 3);
    place_put(p, images, bytes, 16 + n * 20u);
    place_put(p, labels, label, 8u + n);
}

static void test_idx(void **state)
{
    const struct place *p = *state;
    put_idx(p, "idx/train-images-idx3-ubyte", "idx/train-labels-idx1-ubyte", 100);
    check(place_path(p, "idx"), 67, 33);
    put_idx(p, "two/train-images-idx3-ubyte", "two/train-labels-idx1-ubyte", 9);
    put_idx(p, "two/t10k-images-idx3-ubyte", "two/t10k-labels-idx1-ubyte", 7);
    check(place_path(p, "two"), 9, 7);
}

/* Ten records of 1 + 3072 bytes in each of the six files. */
static void test_cifar(void **state)
{
    const struct place *p = *state;
    static const char *const names[] = {"data_batch_1", "data_batch_2", "data_batch_3",
                                        "data_batch_4", "data_batch_5", "test_batch"};
    static uint8_t bytes[10 * 3073];
    for (uint8_t f = 0; f < 6; f++) {
        char name[64];
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(i % 3073 == 0 ? i / 3073 : i * (f + 3u) + i / 50);
        snprintf(name, sizeof name, "cifar/%s.bin", names[f]);
        place_put(p, name, bytes, sizeof bytes);
    }
    check(place_path(p, "cifar"), 50, 10);
}

enum { NPY_N = 12, NPY_IMAGE = 5 * 4 * 3, NPY_AT = 128, NPY_BYTES = NPY_AT + NPY_N * NPY_IMAGE };

static void fill_npy(uint8_t out[NPY_BYTES])
{
    memset(out, ' ', NPY_AT);
    memcpy(out, "\x93NUMPY\x01\x00\x76\x00", 10);
    memcpy(out + 10, "{'descr': '|u1', 'fortran_order': False, 'shape': (12, 5, 4, 3), }", 66);
    out[NPY_AT - 1] = '\n';
    for (unsigned i = 0; i < NPY_N * NPY_IMAGE; i++)
        out[NPY_AT + i] = (uint8_t)(i * 7 + i / 11);
}

static void put_npz(const struct place *p, const char *name, const uint8_t *bytes, int method)
{
    int code;
    zip_t *z = zip_open(place_path(p, name), ZIP_CREATE | ZIP_TRUNCATE, &code);
    assert_non_null(z);
    zip_int64_t at = zip_file_add(z, "images.npy", zip_source_buffer(z, bytes, NPY_BYTES, 0), 0);
    assert_true(at >= 0);
    assert_int_equal(zip_set_file_compression(z, (zip_uint64_t)at, method, 0), 0);
    assert_int_equal(zip_close(z), 0);
}

static void test_arrays(void **state)
{
    const struct place *p = *state;
    uint8_t bytes[NPY_BYTES];
    fill_npy(bytes);
    place_put(p, "set.npy", bytes, sizeof bytes);
    check_split(options_of(place_path(p, "set.npy"), false), DATASET_TRAIN, NPY_N);
    put_npz(p, "set.npz", bytes, ZIP_CM_STORE);
    check_split(options_of(place_path(p, "set.npz"), false), DATASET_TRAIN, NPY_N);
    put_npz(p, "packed.npz", bytes, ZIP_CM_DEFLATE);
    struct dataset_options o = options_of(place_path(p, "packed.npz"), true);
    expect_failure_of(&o, DATASET_TRAIN, ERR_CONFIG, "numpy.savez");
}

/* 512 bytes of header, the file, zeros. */
static size_t put_member(uint8_t *tar, const char *name, const uint8_t *bytes, size_t size)
{
    unsigned sum = 0;
    memset(tar, 0, 512 + (size + 511) / 512 * 512);
    snprintf((char *)tar, 100, "%s", name);
    snprintf((char *)tar + 100, 8, "%07o", 0644);
    snprintf((char *)tar + 108, 8, "%07o", 0);
    snprintf((char *)tar + 116, 8, "%07o", 0);
    snprintf((char *)tar + 124, 12, "%011zo", size);
    snprintf((char *)tar + 136, 12, "%011o", 0);
    memcpy(tar + 148, "        0", 9);
    memcpy(tar + 257, "ustar\00000", 8);
    for (int i = 0; i < 512; i++)
        sum += tar[i];
    snprintf((char *)tar + 148, 8, "%06o", sum);
    memcpy(tar + 512, bytes, size);
    return 512 + (size + 511) / 512 * 512;
}

static void put_tar(const struct place *p, const char *name, unsigned first)
{
    static uint8_t tar[1 << 16];
    size_t at = 0;
    memset(tar, 0, sizeof tar);
    for (unsigned i = first; i < first + 6; i++) {
        char member[32], text[32], pixels[64];
        snprintf(member, sizeof member, "%03u.pgm", i);
        int n = snprintf(pixels, sizeof pixels, "P2 2 2 255 %u %u %u 9 ", i, i * 7 % 256, 200 - i);
        at += put_member(tar + at, member, (const uint8_t *)pixels, (size_t)n);
        snprintf(member, sizeof member, "%03u.cls", i);
        n = snprintf(text, sizeof text, "%u", i % 5);
        at += put_member(tar + at, member, (const uint8_t *)text, (size_t)n);
    }
    place_put(p, name, tar, at + 1024);
}

static void test_shards(void **state)
{
    const struct place *p = *state;
    put_tar(p, "shards/train-0.tar", 0);
    put_tar(p, "shards/train-1.tar", 6);
    put_tar(p, "shards/val-0.tar", 12);
    check(place_path(p, "shards"), 12, 6);
}

static void test_several(void **state)
{
    const struct place *p = *state;
    char list[1200], first[512];
    put_folder(p, "a", true);
    put_folder(p, "b", false);
    snprintf(first, sizeof first, "%s", place_path(p, "a"));
    snprintf(list, sizeof list, "%s:%s", first, place_path(p, "b"));
    check(list, 17, 7);
    put_idx(p, "c/train-images-idx3-ubyte", "c/train-labels-idx1-ubyte",
            100); /* more than a batch of the second look */
    put_idx(p, "d/train-images-idx3-ubyte", "d/train-labels-idx1-ubyte", 200);
    snprintf(first, sizeof first, "%s", place_path(p, "c"));
    snprintf(list, sizeof list, "%s:%s", first, place_path(p, "d"));
    check(list, 201, 99);
}

static void test_compressed_idx(void **state)
{
    const struct place *p = *state;
    char command[600];
    put_idx(p, "gz/train-images-idx3-ubyte", "gz/train-labels-idx1-ubyte", 9);
    snprintf(command, sizeof command, "gzip %s", place_path(p, "gz/train-images-idx3-ubyte"));
    assert_int_equal(system(command), 0);
    struct dataset_options o = options_of(place_path(p, "gz"), true);
    expect_failure_of(&o, DATASET_TRAIN, ERR_CONFIG, "gunzip it");
}

/* ---- what happens to files later ---- */

static void expect_loss(const struct dataset *d, uint32_t i, int code, const char *name, const char *word)
{
    uint8_t pixels[8 * 8 * 3];
    struct error e = {0};
    assert_int_equal(image_source_read(d->source, i, pixels, &e), code);
    if (!strstr(e.text, name) || !strstr(e.text, word))
        fail_msg("'%s' does not say '%s' and '%s'", e.text, name, word);
}

static void test_files_that_change(void **state)
{
    const struct place *p = *state;
    struct dataset d;
    uint8_t pixels[8 * 8 * 3];
    struct error e;
    put_folder(p, "set", false);
    struct dataset_options o = options_of(place_path(p, "set"), true);
    o.holdout = 0;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(image_source_read(d.source, 0, pixels, &e), 0); /* cat/01, dog/00, cat/03, dog/02 ... */
    put_photo(p, "set/cat/03.png", 77);
    expect_loss(&d, 2, ERR_FORMAT, "cat/03.png", "not those that it had");
    unlink(place_path(p, "set/dog/00.png"));
    expect_loss(&d, 1, ERR_NOT_FOUND, "dog/00.png", "put it back");
    place_put(p, "set/cat/01.png", "no image", 8);
    expect_loss(&d, 0, ERR_FORMAT, "cat/01.png", "not PNG");
    put_photo(p, "set/cat/01.png", 1); /* as it was */
    assert_int_equal(image_source_read(d.source, 0, pixels, &e), 0);
    dataset_fini(&d);

    put_idx(p, "idx/train-images-idx3-ubyte", "idx/train-labels-idx1-ubyte", 9);
    o.path = place_path(p, "idx");
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(truncate(place_path(p, "idx/train-images-idx3-ubyte"), 100), 0);
    expect_loss(&d, 8, ERR_FORMAT, "train-images-idx3-ubyte: image 8", "ends before it");
    dataset_fini(&d);
}

/* ---- the feed ---- */

enum { BATCH = 4, READERS = 3, TAKERS = 3, ROUNDS = 60 };

struct fed {
    struct dataset kept, d;
    struct image_feed *feed;
};

static void open_fed(struct fed *f, const struct place *p, uint32_t batches, uint32_t threads)
{
    put_idx(p, "fed/train-images-idx3-ubyte", "fed/train-labels-idx1-ubyte", 200);
    struct dataset_options o = options_of(place_path(p, "fed"), false);
    o.holdout = 0;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &f->kept), 0);
    o.on_demand = true;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &f->d), 0);
    const struct image_feed_options options = {.source = f->d.source,
                                               .image_bytes = dataset_image_bytes(&f->d),
                                               .size = BATCH,
                                               .batches = batches,
                                               .threads = threads};
    assert_int_equal(image_feed_new(&options, &f->feed, NULL), 0);
}

static void close_fed(struct fed *f)
{
    image_feed_free(&f->feed);
    dataset_fini(&f->kept);
    dataset_fini(&f->d);
}

static void batch_of(uint64_t key, uint32_t out[BATCH])
{
    for (uint32_t i = 0; i < BATCH; i++)
        out[i] = (uint32_t)((key * BATCH + i) * 71 % 200);
}

static bool take_one(struct fed *f, uint64_t key)
{
    uint32_t images[BATCH];
    const uint8_t *pixels;
    size_t bytes = dataset_image_bytes(&f->kept);
    struct error e;
    bool same = true;
    batch_of(key, images);
    if (image_feed_take(f->feed, key, images, &pixels, &e) != 0)
        return false;
    for (uint32_t i = 0; i < BATCH; i++)
        same = same && memcmp(pixels + i * bytes, f->kept.images + images[i] * bytes, bytes) == 0;
    image_feed_release(f->feed, key);
    return same;
}

struct taker {
    struct fed *fed;
    uint64_t first;
    bool same;
};

/* Each wants what it and the others will take, and takes its own in order, some of it twice. */
static void *take_many(void *arg)
{
    struct taker *t = arg;
    uint32_t images[BATCH];
    t->same = true;
    for (uint64_t i = 0; i < ROUNDS; i++) {
        uint64_t key = t->first + i * TAKERS;
        for (uint64_t ahead = key; ahead < key + 5; ahead++) {
            batch_of(ahead, images);
            image_feed_want(t->fed->feed, ahead, images);
        }
        t->same = take_one(t->fed, key) && t->same;
        if (i % 7 == 3)
            t->same = take_one(t->fed, key) && t->same;
        if (i % 5 == 0)
            image_feed_pass(t->fed->feed, key > 6 ? key - 6 : 0);
    }
    return NULL;
}

static void check_feed(const struct place *p, uint32_t batches, uint32_t threads)
{
    struct fed f;
    pthread_t ids[TAKERS];
    struct taker takers[TAKERS];
    struct error e;
    open_fed(&f, p, batches, threads);
    for (unsigned i = 0; i < TAKERS; i++) {
        takers[i] = (struct taker){.fed = &f, .first = i};
        assert_int_equal(pthread_create(&ids[i], NULL, take_many, &takers[i]), 0);
    }
    for (unsigned i = 0; i < TAKERS; i++) {
        pthread_join(ids[i], NULL);
        assert_true(takers[i].same);
    }
    assert_true(take_one(&f, 1)); /* a run that went back */
    assert_false(image_feed_failure(f.feed, &e));
    close_fed(&f);
}

static void test_feed(void **state)
{
    check_feed(*state, TAKERS, 0); /* no thread reads ahead: whoever takes reads */
    check_feed(*state, TAKERS, READERS);
    check_feed(*state, 9, READERS);
}

/* Images that are counted as they are read, until they are gone. */
struct counted {
    atomic_uint reads;
    atomic_bool gone;
};

static int counted_read(void *state, uint32_t place, struct image *out, struct error *e)
{
    struct counted *c = state;
    if (atomic_load(&c->gone))
        return error_set(e, ERR_NOT_FOUND, "gone");
    int rc = image_claim(out, 1, 1, 1, e);
    if (rc == 0)
        out->pixels[0] = (uint8_t)place;
    atomic_fetch_add(&c->reads, 1);
    return rc;
}

static void counted_name(const void *state, uint32_t place, char out[IMAGE_SOURCE_NAME_MAX])
{
    (void)state;
    snprintf(out, IMAGE_SOURCE_NAME_MAX, "image %u", place);
}

static void counted_free(void *state)
{
    (void)state;
}

static struct image_source *open_counted(struct counted *c)
{
    struct image_source *s;
    assert_int_equal(image_source_new(100, &s), 0);
    s->parts->access = (struct image_access){c, counted_read, counted_name, counted_free};
    s->parts->size = (struct image_size){1, 1, 1};
    s->parts->count = 100;
    for (uint8_t i = 0; i < 100; i++) {
        s->parts->places[i] = i;
        s->parts->hashes[i] = image_source_hash(&i, &s->parts->size);
    }
    return s;
}

/* The first image of batch `key` when it can be taken, else -1. */
static int taken(struct image_feed *feed, uint8_t key)
{
    const uint32_t images[BATCH] = {key, 1, 2, 3};
    const uint8_t *pixels;
    struct error e;
    if (image_feed_take(feed, key, images, &pixels, &e) != 0)
        return -1;
    int first = pixels[0];
    image_feed_release(feed, key);
    return first;
}

static void want(struct image_feed *feed, uint8_t key)
{
    const uint32_t images[BATCH] = {key, 1, 2, 3};
    image_feed_want(feed, key, images);
}

/* What is wanted is read without being taken, what is wanted sooner before what is wanted later, and no more than
 * there is room for. */
static void test_feed_reads_ahead(void **state)
{
    struct counted c = {0};
    struct image_source *source = open_counted(&c);
    struct image_feed *feed;
    struct error e = {0};
    const struct image_feed_options o = {.source = source, .image_bytes = 1, .size = BATCH, .batches = 2, .threads = 1};
    (void)state;
    assert_int_equal(image_feed_new(&o, &feed, NULL), 0);
    want(feed, 8);
    want(feed, 7);
    for (int i = 0; i < 10000 && atomic_load(&c.reads) < 2 * BATCH; i++)
        usleep(1000);
    want(feed, 9); /* later than both that are here */
    assert_int_equal(taken(feed, 7), 7);
    assert_int_equal(atomic_load(&c.reads), 2 * BATCH);
    atomic_store(&c.gone, true);
    assert_int_equal(taken(feed, 8), 8);
    assert_false(image_feed_failure(feed, &e));
    assert_int_equal(taken(feed, 9), -1);
    assert_true(image_feed_failure(feed, &e));
    assert_int_equal(e.code, ERR_NOT_FOUND);
    assert_non_null(strstr(e.text, "gone"));
    atomic_store(&c.gone, false); /* it is back */
    assert_int_equal(taken(feed, 9), 9);
    image_feed_free(&feed);
    image_source_free(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_folders),        PLACE_CASE(test_idx),
        PLACE_CASE(test_cifar),          PLACE_CASE(test_arrays),
        PLACE_CASE(test_shards),         PLACE_CASE(test_several),
        PLACE_CASE(test_compressed_idx), PLACE_CASE(test_files_that_change),
        PLACE_CASE(test_feed),           PLACE_CASE(test_feed_reads_ahead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
