/* Folders that are splits, that nearly are, and what lies beside them: nothing is ignored in silence. */
#include "tests/unit/worker/data_place.h"

static struct dataset_options options(const struct place *p)
{
    return (struct dataset_options){.path = p->dir, .memory_bytes = 1 << 24, .holdout = 2};
}

/* A grey PNG of one pixel with this value. */
static void put_dot(const struct place *p, const char *name, uint8_t value)
{
    place_png(p, name, &value, 1, 1, 1);
}

static void put_in(const struct place *p, const char *folder, const char *name, uint8_t value)
{
    char full[128];
    snprintf(full, sizeof full, "%s/%s", folder, name);
    put_dot(p, full, value);
}

static void expect_note(const struct dataset *d, const char *word)
{
    for (uint32_t i = 0; i < d->note_count; i++)
        if (strstr(d->notes[i], word))
            return;
    fail_msg("no note of %u says '%s'", d->note_count, word);
}

static void empty(struct place *p)
{
    nftw(p->dir, place_remove, 16, FTW_DEPTH | FTW_PHYS);
    mkdir(p->dir, 0755);
}

static void test_names_of_splits(void **state)
{
    static const char *const pairs[][2] = {{"train", "valid"},      {"train", "test"},      {"training", "validation"},
                                           {"Train", "Test"},       {"TRAIN", "VAL"},       {"training", "testing"},
                                           {"Training", "Testing"}, {"trainset", "dev"},    {"train", "Validation"},
                                           {"train", "eval"},       {"train", "evaluation"}};
    struct dataset_options o = options(*state);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct dataset train, test;
        put_in(*state, pairs[i][0], "a/1.png", 1);
        put_in(*state, pairs[i][0], "b/1.png", 2);
        put_in(*state, pairs[i][1], "b/1.png", 3);
        assert_int_equal(place_load(&o, DATASET_TRAIN, &train), 0);
        assert_int_equal(place_load(&o, DATASET_TEST, &test), 0);
        assert_true(train.count == 2 && train.classes == 2 && train.problem_count == 0 && train.holdout == 0);
        assert_true(test.count == 1 && test.images[0] == 3 && test.labels[0] == 1 && test.holdout == 0);
        assert_int_equal(train.note_count, i == 1 ? 0 : 1); /* plain names need no word */
        assert_int_equal(test.note_count, 0);
        dataset_fini(&train);
        dataset_fini(&test);
        empty(*state);
    }
}

static void test_the_better_name_is_taken(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "Train/a/1.png", 1);
    put_dot(*state, "training/a/1.png", 2);
    put_dot(*state, "train/a/1.png", 3);
    put_dot(*state, "valid/a/1.png", 4);
    put_dot(*state, "val/a/1.png", 5);
    place_put(*state, "test", "a file", 6);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 1 && d.images[0] == 3 && d.problem_count == 0);
    expect_note(&d, "/Train is not read: the splits are train and val");
    expect_note(&d, "/training is not read");
    expect_note(&d, "/valid is not read");
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 1 && d.images[0] == 5);
    dataset_fini(&d);
}

static void test_what_lies_beside(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "train/a/1.png", 1);
    put_dot(*state, "test/a/1.png", 1);
    put_dot(*state, "train/b/1.png", 1);
    put_dot(*state, "cat/1.png", 2);
    put_dot(*state, "loose.png", 3);
    put_dot(*state, "loose2.png", 3);
    place_put(*state, "labels/1.txt", "x", 1);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 2 && d.problem_count == 2 && d.skipped == 2 && d.note_count == 0);
    expect_problem(&d, "/cat holds images and is not read: train is taken");
    expect_problem(&d, "2 images beside train/ are left out");
    dataset_fini(&d);
}

static void test_splits_without_a_training_folder(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "train2017/1.png", 1);
    put_dot(*state, "val_images/1.png", 2);
    put_dot(*state, "Test/1.png", 3);
    put_dot(*state, "valley/1.png", 4);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.classes == 4 && d.problem_count == 3);
    expect_problem(&d, "/train2017 is a class here");
    expect_problem(&d, "/val_images is a class here");
    expect_problem(&d, "/Test is a class here");
    dataset_fini(&d);
}

static void test_a_folder_around_the_classes(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "set/photos/cat/1.png", 1);
    put_dot(*state, "set/photos/dog/1.png", 2);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.problem_count, 1);
    expect_problem(&d, "/set/photos: all images lie in folders of it");
    expect_problem(&d, "name it when");
    dataset_fini(&d);
    put_dot(*state, "set/photos/3.png", 3);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.problem_count, 0);
    expect_note(&d, "one class only, set");
    dataset_fini(&d);
}

static void test_test_images_without_classes(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "train/a/1.png", 1);
    put_dot(*state, "test/1.png", 2);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 1 && d.labels == NULL);
    expect_problem(&d, "no class folders in it");
    dataset_fini(&d);
}

static void test_unicode_forms(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    put_dot(*state, "train/caf\xc3\xa9/1.png", 1);
    put_dot(*state, "train/x/1.png", 2);
    put_dot(*state, "test/cafe\xcc\x81/1.png", 3);
    put_dot(*state, "test/y/1.png", 4);
    put_dot(*state, "test/y/2.png", 4);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    assert_true(d.count == 1 && d.images[0] == 3 && d.labels[0] == 0 && d.problem_count == 1 && d.skipped == 2);
    expect_problem(&d, "/y: no training class of that name");
    dataset_fini(&d);
    put_dot(*state, "train/cafe\xcc\x81/1.png", 5);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.classes, 3);
    expect_problem(&d, "two Unicode forms");
    dataset_fini(&d);
}

static void test_unread_images_are_counted_by_kind(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    char name[32];
    uint8_t dot = 9;
    put_dot(*state, "a/0.png", 1);
    for (int i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "a/%02d.GIF", i);
        place_put(*state, name, "GIF89a", 6);
        snprintf(name, sizeof name, "b/%02d", i);
        place_put(*state, name, "\xff\xd8\xff\xe0", 4);
    }
    put_dot(*state, "b/0.jpg", 2); /* a PNG by another name */
    place_put(*state, "a/notes.txt", "\x89PNG\r\n\x1a\n", 8);
    place_put(*state, "a/data.bin", "P5 is how this text begins", 26);
    place_png(*state, "b/zz.gif", &dot, 1, 1, 1); /* its name says image, its content which */
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.problem_count == 2 && d.skipped == 60);
    expect_problem(&d, "30 files named .gif are not read (the first is a/00.GIF); convert to PNG or JPEG");
    expect_problem(&d, "30 files without an ending are of format JPEG (the first is b/00); name them accordingly");
    dataset_fini(&d);
    o.holdout = 0;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 3 && memcmp(d.images, "\1\2\x09", 3) == 0);
    dataset_fini(&d);
}

/* More kinds than there is room for: the rest is counted with the last. */
static void test_many_kinds(void **state)
{
    struct dataset_options o = options(*state);
    struct dataset d;
    char name[32];
    put_dot(*state, "0.png", 1);
    for (int i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "x.kind%02d", i);
        place_put(*state, name, "GIF89a", 6);
    }
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.problem_count == 24 && d.skipped == 60);
    dataset_fini(&d);
}

struct calls {
    uint64_t count, last, total;
};

static void note_call(void *context, uint64_t done, uint64_t total)
{
    struct calls *c = context;
    assert_true(done >= c->last && done <= total);
    *c = (struct calls){c->count + 1, done, total};
}

static void test_progress(void **state)
{
    struct dataset_options o = options(*state);
    struct calls calls = {0};
    struct dataset d;
    char name[32];
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "%02d.png", i);
        put_dot(*state, name, (uint8_t)i);
    }
    o.progress = note_call;
    o.progress_context = &calls;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(calls.count >= 2 && calls.last == 50 && calls.total == 50);
    dataset_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_names_of_splits),
        PLACE_CASE(test_the_better_name_is_taken),
        PLACE_CASE(test_what_lies_beside),
        PLACE_CASE(test_splits_without_a_training_folder),
        PLACE_CASE(test_a_folder_around_the_classes),
        PLACE_CASE(test_test_images_without_classes),
        PLACE_CASE(test_unicode_forms),
        PLACE_CASE(test_unread_images_are_counted_by_kind),
        PLACE_CASE(test_many_kinds),
        PLACE_CASE(test_progress),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
