/* CIFAR's binary files: records, planes, both variants, and files that are not what they should be. */
#include "tests/unit/worker/data_place.h"
#include <string.h>
#include <unistd.h>

enum { PLANE = 32 * 32, RECORD = 1 + 3 * PLANE };

static struct dataset_options options(const struct place *p)
{
    return (struct dataset_options){.path = p->dir, .holdout = 10, .memory_bytes = 1 << 24};
}

/* `count` records of `label_bytes` labels; image i has red i, green 100 + i, blue 200 + its row. */
static void put_records(const struct place *p, const char *name, int count, int label_bytes, uint8_t label)
{
    uint8_t *bytes = malloc((size_t)count * (RECORD + 1)), *at = bytes;
    for (int i = 0; i < count; i++) {
        memset(at, label, (size_t)label_bytes);
        if (label_bytes == 2)
            at[0] = 19; /* the coarse label */
        at += label_bytes;
        memset(at, i, PLANE);
        memset(at + PLANE, 100 + i, PLANE);
        for (int j = 0; j < PLANE; j++)
            at[2 * PLANE + j] = (uint8_t)(200 + j / 32);
        at += 3 * PLANE;
    }
    place_put(p, name, bytes, (size_t)(at - bytes));
    free(bytes);
}

static void put_ten(const struct place *p)
{
    static const char *const names[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                                        "data_batch_5.bin"};
    for (int i = 0; i < 5; i++)
        put_records(p, names[i], 2, 1, (uint8_t)i);
}

static void test_missing_batch(void **state)
{
    struct dataset_options o = options(*state);
    put_ten(*state);
    unlink(place_path(*state, "data_batch_4.bin"));
    expect_failure_of(&o, DATASET_TRAIN, ERR_NOT_FOUND, "data_batch_4.bin");
}

static void test_damaged(void **state)
{
    struct dataset_options o = options(*state);
    put_ten(*state);
    place_put(*state, "data_batch_2.bin", "", 0);
    expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "data_batch_2.bin: 0 bytes");
    place_put(*state, "data_batch_2.bin", "1234", 4);
    expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "data_batch_2.bin: 4 bytes");
    put_records(*state, "data_batch_2.bin", 1, 1, 10);
    expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "label 10");
}

static void test_ten(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_ten(*state);
    put_records(*state, "test_batch.bin", 3, 1, 9);
    place_put(*state, "batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nship\n\n", 24);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 10 && d.height == 32 && d.width == 32 && d.channels == 3 && d.classes == 10);
    assert_string_equal(d.class_names[9], "ship");
    for (uint32_t i = 0; i < 10; i++) {
        const uint8_t *last = d.images + (i + 1) * 3 * PLANE - 3;
        assert_int_equal(d.labels[i], i / 2);
        assert_true(last[0] == i % 2 && last[1] == 100 + i % 2 && last[2] == 231);
    }
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 3 && d.labels[0] == 9 && d.holdout == 0);
    dataset_fini(&d);
}

static void test_hundred(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_records(*state, "train.bin", 20, 2, 99);
    place_put(*state, "fine_label_names.txt", "only\none", 8); /* not a hundred: no names */
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 18 && d.classes == 100 && d.labels[0] == 99 && d.class_names == NULL);
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 2 && d.holdout == 10);
    dataset_fini(&d);
    o.limit = 3;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.count, 3);
    dataset_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_missing_batch),
        PLACE_CASE(test_damaged),
        PLACE_CASE(test_ten),
        PLACE_CASE(test_hundred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
