/* Several paths in one: the order of images, classes by name in both splits, limits over all of them, and what cannot
 * be put together. */
#include "tests/unit/worker/data_place.h"

#include "common/path_list.h"

/* The list of these places below the scratch directory. */
static void list_of(struct place *p, const char *const *names, size_t n, char list[512])
{
    list[0] = '\0';
    for (size_t i = 0; i < n; i++)
        assert_true(path_list_append(list, 512, place_path(p, names[i])));
}

static struct dataset_options options_of(const char *list)
{
    return (struct dataset_options){.path = list, .side = 1, .channels = 1};
}

static void put_dot(struct place *p, const char *name, uint8_t value)
{
    place_png(p, name, &value, 1, 1, 1);
}

/* Classes b and c, with a test folder; classes a and b, without. */
static void put_sets(struct place *p, char list[512])
{
    static const char *const names[] = {"first:set", "second"};
    put_dot(p, "first:set/train/c/1.png", 1);
    put_dot(p, "first:set/train/b/1.png", 2);
    put_dot(p, "first:set/test/b/1.png", 3);
    put_dot(p, "first:set/test/c/1.png", 4);
    put_dot(p, "second/a/1.png", 5);
    put_dot(p, "second/a/2.png", 6);
    put_dot(p, "second/b/1.png", 7);
    put_dot(p, "second/b/2.png", 8);
    list_of(p, names, 2, list);
}

static void expect(const struct dataset *d, const char *images, const uint16_t *labels, uint32_t n)
{
    assert_int_equal(d->count, n);
    assert_memory_equal(d->images, images, n);
    assert_non_null(d->labels);
    assert_memory_equal(d->labels, labels, n * sizeof *labels);
    assert_int_equal(d->classes, 3);
    assert_string_equal(d->class_names[0], "a");
    assert_string_equal(d->class_names[1], "b");
    assert_string_equal(d->class_names[2], "c");
    assert_null(d->class_names[3]);
}

static void test_classes_are_merged_by_name(void **state)
{
    char list[512];
    struct dataset d;
    put_sets(*state, list);
    struct dataset_options o = options_of(list);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    expect(&d, "\2\1\5\7\6\10", (const uint16_t[]){1, 2, 0, 1, 0, 1}, 6);
    assert_string_equal(d.format, "image folder");
    assert_int_equal(d.sizes.height_max, 1);
    dataset_fini(&d);
}

/* Whoever shows images asks for their names: each with the path of its own set, also with a cache, which keeps none. */
static void test_names_of_images(void **state)
{
    char list[512], first[600], cache[600];
    struct dataset d;
    put_sets(*state, list);
    struct dataset_options o = options_of(list);
    snprintf(cache, sizeof cache, "%s", place_path(*state, "cache"));
    o.names = true;
    o.cached = true;
    o.cache_directory = cache;
    snprintf(first, sizeof first, "%s", place_path(*state, "first:set"));
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.count, 6);
    assert_true(strncmp(d.names[0], first, strlen(first)) == 0);
    assert_non_null(strstr(d.names[0], "b/1.png"));
    assert_non_null(strstr(d.names[2], "second/"));
    assert_non_null(strstr(d.names[5], "b/2.png"));
    dataset_fini(&d);
}

/* The second set has test images only when some are held out; its classes count either way. */
static void test_both_splits_have_the_same_numbers(void **state)
{
    char list[512];
    struct dataset d;
    put_sets(*state, list);
    struct dataset_options o = options_of(list);
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    expect(&d, "\3\4", (const uint16_t[]){1, 2}, 2);
    dataset_fini(&d);
    o.holdout = 2;
    assert_int_equal(place_load(&o, DATASET_TEST, &d), 0);
    expect(&d, "\3\4\6\10", (const uint16_t[]){1, 2, 0, 1}, 4);
    assert_int_equal(d.holdout, 2);
    dataset_fini(&d);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    expect(&d, "\2\1\5\7", (const uint16_t[]){1, 2, 0, 1}, 4);
    dataset_fini(&d);
}

static void test_limits_are_of_all(void **state)
{
    char list[512];
    struct dataset d;
    struct error e = {0};
    put_sets(*state, list);
    struct dataset_options o = options_of(list);
    o.limit = 3;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    expect(&d, "\2\1\5", (const uint16_t[]){1, 2, 0}, 3);
    dataset_fini(&d);
    o.limit = 1; /* nothing of the second is wanted but its classes */
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    expect(&d, "\2", (const uint16_t[]){1}, 1);
    dataset_fini(&d);
    o.limit = 0;
    o.memory_bytes = 5;
    assert_int_equal(dataset_load(&o, DATASET_TRAIN, &d, &e), ERR_RANGE);
    assert_non_null(strstr(e.text, "data.memory"));
    o.memory_bytes = 6;
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    dataset_fini(&d);
}

static void test_a_set_without_labels(void **state)
{
    static const char *const names[] = {"labelled", "flat"};
    char list[512];
    struct dataset d;
    put_dot(*state, "labelled/a/1.png", 1);
    put_dot(*state, "labelled/b/1.png", 2);
    put_dot(*state, "flat/1.png", 3);
    list_of(*state, names, 2, list);
    struct dataset_options o = options_of(list);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_int_equal(d.count, 3);
    assert_memory_equal(d.images, "\1\2\3", 3);
    assert_true(d.labels == NULL && d.class_names == NULL && d.classes == 0);
    assert_int_equal(d.note_count, 1);
    assert_non_null(strstr(d.notes[0], "flat has no labels"));
    dataset_fini(&d);
}

/* "e" and an accent behind it, as some file systems write it, and as one letter. */
static void test_names_in_other_unicode_forms(void **state)
{
    static const char *const names[] = {"one", "two"};
    char list[512];
    struct dataset d;
    put_dot(*state, "one/e\xcc\x81/1.png", 1);
    put_dot(*state, "two/\xc3\xa9/1.png", 2);
    list_of(*state, names, 2, list);
    struct dataset_options o = options_of(list);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 2 && d.classes == 1 && d.labels[0] == 0 && d.labels[1] == 0);
    dataset_fini(&d);
}

static void test_what_cannot_be_joined(void **state)
{
    static const char *const missing[] = {"second", "absent"}, *const flat[] = {"flat", "flat"};
    char list[512];
    put_sets(*state, list);
    struct dataset_options o = options_of(list);
    o.side = 0;
    expect_failure_of(&o, DATASET_TRAIN, ERR_CONFIG, "data.side");
    o.side = 1;
    o.channels = 0;
    expect_failure_of(&o, DATASET_TRAIN, ERR_CONFIG, "data.channels");
    o.channels = 1;
    list_of(*state, missing, 2, list);
    expect_failure_of(&o, DATASET_TRAIN, ERR_NOT_FOUND, "/absent");
    expect_failure_of(&o, DATASET_TEST, ERR_NOT_FOUND, "/absent");
    put_dot(*state, "flat/1.png", 3);
    list_of(*state, flat, 2, list);
    expect_failure_of(&o, DATASET_TEST, ERR_NOT_FOUND, "none of its sets has test images");
}

/* Classes that have numbers only are not those that have names. */
static void test_named_and_numbered(void **state)
{
    static const char *const names[] = {"numbered", "second"}, *const twice[] = {"numbered", "numbered"};
    static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 10, 20};
    static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 2, 4, 1};
    char list[512];
    struct dataset d;
    put_sets(*state, list);
    place_put(*state, "numbered/train-images-idx3-ubyte", images, sizeof images);
    place_put(*state, "numbered/train-labels-idx1-ubyte", labels, sizeof labels);
    list_of(*state, names, 2, list);
    struct dataset_options o = options_of(list);
    expect_failure_of(&o, DATASET_TRAIN, ERR_FORMAT, "its classes have names");
    list_of(*state, twice, 2, list);
    assert_int_equal(place_load(&o, DATASET_TRAIN, &d), 0);
    assert_true(d.count == 4 && d.classes == 5 && d.labels[2] == 4 && d.labels[3] == 1);
    dataset_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_classes_are_merged_by_name),
        PLACE_CASE(test_names_of_images),
        PLACE_CASE(test_both_splits_have_the_same_numbers),
        PLACE_CASE(test_limits_are_of_all),
        PLACE_CASE(test_a_set_without_labels),
        PLACE_CASE(test_names_in_other_unicode_forms),
        PLACE_CASE(test_what_cannot_be_joined),
        PLACE_CASE(test_named_and_numbered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
