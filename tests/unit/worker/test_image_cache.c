/* Decoded sets in files: the same set as from memory, decoded once, anew when its sources change, and nothing believed
 * that is damaged, forged or not ours. */
#include "tests/unit/worker/data_place.h"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>
#include "common/path_list.h"

enum { IMAGES_AT = 4096, HEADER = 5 * 8 + 12 * 4 + 4 * 4 /* as image_cache.c has it */ };

/* Fields of the header by their offset. */
enum {
    AT_CHECKSUM = 8,
    AT_SOURCE = 16,
    AT_IMAGES_BYTES = 24,
    AT_WORDS_BYTES = 32,
    AT_COUNT = 40,
    AT_HEIGHT = 44,
    AT_CLASSES = 56,
    AT_NAMED = 64,
    AT_PROBLEM_COUNT = 76,
    AT_PROBLEMS = 80,
    AT_NOTES = 84
};

struct cached {
    struct place *place;
    char set[512], directory[512];
    struct dataset_options options;
    bool decoded; /* whether the last load did */
};

static void count_decoding(void *context, uint64_t done, uint64_t total)
{
    struct cached *c = context;
    c->decoded = done == total;
}

static void put_dot(const struct place *p, const char *name, uint8_t value)
{
    place_png(p, name, &value, 1, 1, 1);
}

/* Three classes, a file that is none, a test folder. */
static void open_set(struct cached *c, void **state)
{
    static const char *const names[] = {"set/train/a/1.png", "set/train/a/2.png", "set/train/b/1.png",
                                        "set/train/c/1.png", "set/test/b/1.png"};
    *c = (struct cached){.place = *state};
    for (uint8_t i = 0; i < sizeof names / sizeof names[0]; i++)
        put_dot(c->place, names[i], (uint8_t)(i * 40 + 1));
    place_put(c->place, "set/train/c/bad.png", "x", 1);
    snprintf(c->set, sizeof c->set, "%s", place_path(c->place, "set"));
    snprintf(c->directory, sizeof c->directory, "%s", place_path(c->place, "cache/below"));
    c->options = (struct dataset_options){.path = c->set,
                                          .memory_bytes = 1,
                                          .cached = true,
                                          .cache_directory = c->directory,
                                          .progress = count_decoding,
                                          .progress_context = c};
}

/* The only file of images in the cache. */
static void cached_file(const struct cached *c, char path[1024])
{
    unsigned found = 0;
    DIR *d = opendir(c->directory);
    assert_non_null(d);
    for (struct dirent *x; (x = readdir(d)) != NULL;)
        if (strstr(x->d_name, ".images")) {
            snprintf(path, 1024, "%s/%s", c->directory, x->d_name);
            found++;
        }
    closedir(d);
    assert_int_equal(found, 1);
}

static void assert_same_words(char *const *a, char *const *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        assert_string_equal(a[i], b[i]);
}

static void assert_same(const struct dataset *a, const struct dataset *b)
{
    assert_true(dataset_fingerprint(a) == dataset_fingerprint(b));
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->classes, b->classes);
    assert_int_equal(a->holdout, b->holdout);
    assert_int_equal(a->skipped, b->skipped);
    assert_memory_equal(&a->sizes, &b->sizes, sizeof a->sizes);
    assert_ptr_equal(a->format, b->format);
    assert_int_equal(a->class_names != NULL, b->class_names != NULL);
    assert_same_words(a->class_names, b->class_names, a->class_names ? a->classes : 0);
    assert_int_equal(a->problem_count, b->problem_count);
    assert_same_words(a->problems, b->problems, a->problem_count);
    assert_int_equal(a->note_count, b->note_count);
    assert_same_words(a->notes, b->notes, a->note_count);
}

static void load_plain(const struct cached *c, enum dataset_split split, struct dataset *d)
{
    struct dataset_options o = c->options;
    o.cached = false;
    o.memory_bytes = 0;
    o.progress = NULL;
    assert_int_equal(place_load(&o, split, d), 0);
}

/* A load gives what there would be without a cache, decoding or not. */
static void check_load(struct cached *c, enum dataset_split split, bool decoded)
{
    struct dataset plain, d;
    c->decoded = false;
    load_plain(c, split, &plain);
    assert_int_equal(place_load(&c->options, split, &d), 0);
    assert_same(&d, &plain);
    assert_int_equal(c->decoded, decoded);
    dataset_fini(&d);
    dataset_fini(&plain);
}

static void test_decodes_once(void **state)
{
    struct cached c;
    struct dataset d;
    open_set(&c, state);
    struct dataset_options o = c.options;
    o.cached = false; /* one byte of memory is not enough without */
    expect_failure_of(&o, DATASET_TRAIN, ERR_RANGE, "data.cache = file");
    for (unsigned split = DATASET_TRAIN; split <= DATASET_TEST; split++) {
        check_load(&c, (enum dataset_split)split, true);
        check_load(&c, (enum dataset_split)split, false);
    }
    assert_int_equal(place_load(&c.options, DATASET_TRAIN, &d), 0);
    assert_true(d.problem_count == 1 && d.classes == 3 && d.skipped == 1);
    dataset_fini(&d);
    c.options.limit = 2; /* another set */
    check_load(&c, DATASET_TRAIN, true);
    c.options.holdout = 2;
    check_load(&c, DATASET_TRAIN, true);
}

static void test_several_paths(void **state)
{
    struct cached c;
    char list[1100] = "";
    open_set(&c, state);
    put_dot(c.place, "more/b/1.png", 201);
    put_dot(c.place, "more/d/1.png", 202);
    assert_true(path_list_append(list, sizeof list, c.set));
    assert_true(path_list_append(list, sizeof list, place_path(c.place, "more")));
    c.options.path = list;
    c.options.side = c.options.channels = 1;
    check_load(&c, DATASET_TRAIN, true);
    check_load(&c, DATASET_TRAIN, false);
    check_load(&c, DATASET_TEST, true);
    check_load(&c, DATASET_TEST, false);
}

static void test_changed_sources_are_decoded_anew(void **state)
{
    struct cached c;
    char path[1024], after[1024];
    open_set(&c, state);
    check_load(&c, DATASET_TRAIN, true);
    cached_file(&c, path);
    put_dot(c.place, "set/train/a/1.png", 99); /* as many bytes as before */
    check_load(&c, DATASET_TRAIN, true);
    cached_file(&c, after); /* one: the older is gone */
    assert_string_not_equal(path, after);
    put_dot(c.place, "set/train/a/3.png", 98);
    check_load(&c, DATASET_TRAIN, true);
    remove(place_path(c.place, "set/train/a/3.png"));
    check_load(&c, DATASET_TRAIN, true);
    check_load(&c, DATASET_TRAIN, false);
}

/* ---- files that are not what they should be ---- */

static uint8_t *slurp(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*size);
    assert_int_equal(fread(bytes, 1, *size, f), *size);
    fclose(f);
    return bytes;
}

static void spill(const char *path, const uint8_t *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static void test_damaged_files_are_replaced(void **state)
{
    struct cached c;
    char path[1024];
    size_t size;
    open_set(&c, state);
    check_load(&c, DATASET_TRAIN, true);
    cached_file(&c, path);
    uint8_t *whole = slurp(path, &size);
    for (size_t i = 0; i < size; i = i >= IMAGES_AT ? i + 1 : i + 4 < HEADER ? i + 4 : IMAGES_AT) {
        whole[i] ^= 0x10;
        spill(path, whole, size);
        check_load(&c, DATASET_TRAIN, true);
        whole[i] ^= 0x10;
    }
    static const size_t cuts[] = {0, 1, HEADER - 1, HEADER, IMAGES_AT, IMAGES_AT + 1};
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        spill(path, whole, cuts[i]);
        check_load(&c, DATASET_TRAIN, true);
    }
    spill(path, whole, size - 1);
    check_load(&c, DATASET_TRAIN, true);
    check_load(&c, DATASET_TRAIN, false);
    free(whole);
}

static void seal(uint8_t *bytes, size_t size)
{
    memset(bytes + AT_CHECKSUM, 0, 8);
    uint64_t sum = XXH64(bytes + IMAGES_AT, size - IMAGES_AT, XXH64(bytes, HEADER, 0));
    memcpy(bytes + AT_CHECKSUM, &sum, 8);
}

/* With `width` bytes at `at` set to `value` and a checksum that is right. */
static void check_forged(struct cached *c, const char *path, size_t at, uint64_t value, size_t width)
{
    size_t size;
    check_load(c, DATASET_TRAIN, false);
    uint8_t *bytes = slurp(path, &size);
    memcpy(bytes + at, &value, width);
    seal(bytes, size);
    spill(path, bytes, size);
    free(bytes);
    check_load(c, DATASET_TRAIN, true);
}

static void test_forged_files_are_not_believed(void **state)
{
    static const size_t numbers[] = {AT_COUNT, AT_HEIGHT, 48, 52, AT_CLASSES, 60, AT_NAMED, AT_PROBLEMS, AT_NOTES};
    struct cached c;
    char path[1024];
    size_t size;
    open_set(&c, state);
    check_load(&c, DATASET_TRAIN, true);
    cached_file(&c, path);
    uint8_t *whole = slurp(path, &size);
    seal(whole, size); /* nothing forged: the test's checksum is the cache's */
    spill(path, whole, size);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        check_forged(&c, path, numbers[i], UINT32_MAX, 4);
        check_forged(&c, path, numbers[i], 1 << 20, 4);
    }
    check_forged(&c, path, AT_COUNT, 0, 4);
    check_forged(&c, path, AT_CLASSES, 2, 4); /* a label is beyond */
    check_forged(&c, path, AT_SOURCE, 7, 8);
    check_forged(&c, path, AT_IMAGES_BYTES, UINT64_MAX, 8);
    check_forged(&c, path, AT_WORDS_BYTES, UINT64_MAX - 4000, 8);
    check_forged(&c, path, AT_WORDS_BYTES, 0, 8);
    check_forged(&c, path, AT_PROBLEM_COUNT, 0, 4);      /* fewer than there are words of */
    check_forged(&c, path, IMAGES_AT + 8, 77, 2);        /* a label */
    check_forged(&c, path, IMAGES_AT + 16, 'X', 1);      /* the format's name */
    check_forged(&c, path, size - 1, 'X', 1);            /* the last NUL */
    check_forged(&c, path, IMAGES_AT + 16 + 5, '\0', 1); /* a word more than are counted */
    free(whole);
}

static void test_others_files_are_not_believed(void **state)
{
    struct cached c;
    char path[1024];
    struct stat st;
    open_set(&c, state);
    check_load(&c, DATASET_TRAIN, true);
    cached_file(&c, path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(chmod(path, 0620), 0);
    check_load(&c, DATASET_TRAIN, true);
    remove(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    check_load(&c, DATASET_TRAIN, true);
}

/* ---- who is at it, and where ---- */

static void test_processes_share_one_decoding(void **state)
{
    struct cached c;
    pid_t child[4];
    int decoded = 0;
    open_set(&c, state);
    for (int i = 0; i < 4; i++)
        if ((child[i] = fork()) == 0) {
            struct dataset d;
            bool right = dataset_load(&c.options, DATASET_TRAIN, &d, NULL) == 0 && d.count == 4 && d.images[0] == 1;
            _exit(right ? (int)c.decoded : 9);
        }
    for (int i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        decoded += WEXITSTATUS(status);
    }
    assert_int_equal(decoded, 1);
}

static void test_places(void **state)
{
    struct cached c;
    open_set(&c, state);
    place_put(c.place, "file", "x", 1);
    c.options.cache_directory = place_path(c.place, "file");
    expect_failure_of(&c.options, DATASET_TRAIN, ERR_CONFIG, "set data.cache_directory");
    c.options.cache_directory = "";
    assert_int_equal(setenv("XDG_CACHE_HOME", place_path(c.place, "home"), 1), 0);
    check_load(&c, DATASET_TRAIN, true);
    snprintf(c.directory, sizeof c.directory, "%s", place_path(c.place, "home/decant"));
    char path[1024];
    cached_file(&c, path);
    assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
    assert_int_equal(unsetenv("HOME"), 0);
    expect_failure_of(&c.options, DATASET_TRAIN, ERR_CONFIG, "data.cache_directory");
    c.options.path = "/absent";
    c.options.cache_directory = c.directory;
    expect_failure_of(&c.options, DATASET_TRAIN, ERR_NOT_FOUND, "/absent");
}

/* A set that cannot be loaded leaves nothing behind. */
static void test_failures_leave_nothing(void **state)
{
    struct cached c;
    open_set(&c, state);
    place_put(c.place, "empty/readme.txt", "x", 1);
    c.options.path = place_path(c.place, "empty");
    expect_failure_of(&c.options, DATASET_TRAIN, ERR_NOT_FOUND, "no PNG");
    DIR *d = opendir(c.directory);
    for (struct dirent *x; (x = readdir(d)) != NULL;)
        assert_null(strstr(x->d_name, ".images"));
    closedir(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_CASE(test_decodes_once),
        PLACE_CASE(test_several_paths),
        PLACE_CASE(test_changed_sources_are_decoded_anew),
        PLACE_CASE(test_damaged_files_are_replaced),
        PLACE_CASE(test_forged_files_are_not_believed),
        PLACE_CASE(test_others_files_are_not_believed),
        PLACE_CASE(test_processes_share_one_decoding),
        PLACE_CASE(test_places),
        PLACE_CASE(test_failures_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
