/* A directory of image files: class folders or flat (image_list.h), with optional splits (folder_splits.h),
 *     DIR/train/...   DIR/test/... or DIR/val/...
 * A directory without train/ is the training split itself. Test images get the labels of the training classes with
 * their names. Files are decoded by a few threads, each into its own place, so that only their order in the list
 * matters; a file that cannot be read is noted and left out. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "worker/data/class_index.h"
#include "worker/data/folder_splits.h"
#include "worker/data/image_file.h"
#include "worker/data/near_miss.h"
#include "worker/data/reader.h"

struct decoding {
    const struct image_list *list;
    struct image_sink *sink;
    uint32_t min_side;
    atomic_uint next; /* the next file that nobody has taken */
    struct decoded {
        struct image_size size; /* in the file; zero when it could not be read */
        char *cause;            /* why it could not */
    } * files;                  /* (count) */
};

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool has_test(const char *path)
{
    struct folder_splits splits;
    folder_splits_find(path, &splits);
    return splits.test[0] != '\0';
}

/* ---- decoding ---- */

static int read_file(const struct image_list *l, const struct image_entry *x, struct buf **out, struct error *e)
{
    char full[DATASET_PATH_MAX];
    if (path_format(full, sizeof full, "%s/%s", l->root, x->name) != 0)
        return error_set(e, ERR_RANGE, "the path is too long");
    return file_read(full, IMAGE_BYTES_FILE_MAX, out, e);
}

static int decode_file(const struct image_list *l, const struct image_entry *x, uint32_t min_side, struct image *out,
                       struct error *e)
{
    struct buf *b = NULL;
    *out = (struct image){0};
    int rc = read_file(l, x, &b, e);
    if (rc != 0)
        return rc;
    rc = image_decode(b->data, b->size, min_side, out, e);
    buf_unref(&b);
    return rc;
}

/* What an image of the set has for channels: alpha is for compositing only. */
static uint32_t opaque_channels(uint32_t channels)
{
    return channels <= 2 ? 1 : 3;
}

static void decode_one(struct decoding *d, uint32_t i)
{
    const struct image_entry *x = &d->list->entries[i];
    struct image image;
    struct error e = {0};
    int rc = decode_file(d->list, x, d->min_side, &image, &e);
    if (rc == 0 && image_sink_put(d->sink, i, image.pixels, &image.size, (uint16_t)x->class) != 0)
        rc = error_set(&e, ERR_MEMORY, "no memory to resize it");
    if (rc != 0)
        d->files[i].cause = strdup(e.text);
    else
        d->files[i].size = image.file;
    image_fini(&image);
}

/* The next file that nobody has taken. */
static bool decode_next(struct decoding *d)
{
    unsigned i = atomic_fetch_add(&d->next, 1);
    if (i >= d->sink->out->count)
        return false;
    decode_one(d, i);
    return true;
}

static void *decode_some(void *arg)
{
    while (decode_next(arg))
        ;
    return NULL;
}

/* The caller's thread decodes too, and tells how far all are; the system may grant fewer threads than asked for. */
static void decode_all(struct decoding *d)
{
    pthread_t threads[FOLDER_THREADS_MAX];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = cores < 2 ? 0 : cores > FOLDER_THREADS_MAX ? FOLDER_THREADS_MAX - 1 : (size_t)cores - 1, n = 0;
    while (n < wanted && pthread_create(&threads[n], NULL, decode_some, d) == 0)
        n++;
    do {
        unsigned taken = atomic_load(&d->next), count = d->sink->out->count;
        image_sink_progress(d->sink, taken < count ? taken : count);
    } while (decode_next(d));
    for (size_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    image_sink_progress(d->sink, d->sink->out->count);
}

/* In the order of the list, whichever thread was first. */
static void note_results(const struct decoding *d)
{
    for (uint32_t i = 0; i < d->sink->out->count; i++) {
        const struct decoded *file = &d->files[i];
        if (d->sink->loaded[i])
            image_sink_saw(d->sink, &file->size);
        else
            image_sink_problem(d->sink, "%s/%s: %s", d->list->root, d->list->entries[i].name,
                               file->cause ? file->cause : "no memory");
    }
}

static int load_files(const struct image_list *l, struct image_sink *sink, struct error *e)
{
    const struct dataset *set = sink->out;
    struct decoding d = {.list = l, .sink = sink};
    d.min_side =
        2 * (set->height > set->width ? set->height : set->width); /* leaves our filter its share of the work */
    d.files = calloc(set->count, sizeof *d.files);
    if (!d.files)
        return error_set(e, ERR_MEMORY, "%s: no memory to load %u images", l->root, set->count);
    decode_all(&d);
    note_results(&d);
    bool any = memchr(sink->loaded, 1, set->count) != NULL;
    if (!any)
        error_set(e, ERR_FORMAT, "%.200s: none of %u images can be read; the first, %.100s: %.150s", l->root,
                  set->count, l->entries[0].name, d.files[0].cause ? d.files[0].cause : "no memory");
    for (uint32_t i = 0; i < set->count; i++)
        free(d.files[i].cause);
    free(d.files);
    return any ? 0 : ERR_FORMAT;
}

/* ---- the ground ---- */

/* The first bytes of a file; 0 when it cannot be read, which is said when it is decoded. */
static size_t peek(const struct image_list *l, const struct image_entry *x, uint8_t start[IMAGE_MAGIC_MAX])
{
    char full[DATASET_PATH_MAX];
    if (path_format(full, sizeof full, "%s/%s", l->root, x->name) != 0)
        return 0;
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd < 0 ? 0 : read(fd, start, IMAGE_MAGIC_MAX);
    if (fd >= 0)
        close(fd);
    return got > 0 ? (size_t)got : 0;
}

/* Of the training images, all of them, whatever share or split is loaded, so that all come to the same choice. */
static void judge_ground(const struct image_list *train, struct image_sink *sink)
{
    struct ground votes = {0};
    uint8_t start[IMAGE_MAGIC_MAX];
    struct image image;
    if (sink->options->background != BACKGROUND_AUTO)
        return;
    for (size_t i = 0; i < train->count && i < GROUND_FILES_MAX && votes.images < GROUND_IMAGES_MAX; i++) {
        const struct image_entry *x = &train->entries[i];
        if (!ground_may_matter(start, peek(train, x, start)) || decode_file(train, x, 0, &image, NULL) != 0)
            continue;
        ground_vote(&votes, image.pixels, &image.size);
        image_fini(&image);
    }
    image_sink_judge(sink, &votes);
}

/* ---- the lists ---- */

/* What names alone do not tell to be wrong. */
static void note_classes(const struct image_list *l, bool split, struct image_sink *sink)
{
    struct class_index index;
    uint32_t a, b;
    char below[DATASET_PATH_MAX];
    for (uint32_t i = 0; !split && i < l->class_count; i++)
        if (folder_name_is_of_a_split(l->classes[i]))
            image_sink_problem(sink,
                               "%.200s/%.100s is a class here, since there is no training folder; if it is a split, "
                               "call the folder of the training images train",
                               l->root, l->classes[i]);
    if (l->class_count == 1 && image_list_is_wrapped(l, below))
        image_sink_problem(sink, "%.400s: all images lie in folders of it, and it is the only class; %s", below,
                           split ? "move those folders up" : "set data.path to it when they are the classes");
    else if (l->class_count == 1)
        image_sink_note(sink, "%.200s has one class only, %.100s: its labels tell nothing apart", l->root,
                        l->classes[0]);
    if (class_index_init(&index, l->classes, l->class_count) != 0)
        return;
    for (uint32_t i = 0; (i = class_index_twins(&index, i, &a, &b)) != 0;)
        image_sink_problem(sink,
                           "%.200s: classes %u and %u have the same name, %.100s, in two Unicode forms; give them "
                           "one folder when they are the same",
                           l->root, a, b, l->classes[a]);
    class_index_fini(&index);
}

/* Of the first training image that can be read, unless the options say everything. */
static int first_size(const struct image_list *train, const struct image_sink *sink, struct image_size *out,
                      struct error *e)
{
    struct image image;
    struct error why = {0};
    *out = (struct image_size){sink->options->side, sink->options->side, sink->options->channels};
    if (sink->options->side && sink->options->channels)
        return 0;
    for (size_t i = 0; i < train->count; i++) {
        if (!image_sink_trains_on(sink, train->entries[i].position) ||
            decode_file(train, &train->entries[i], 0, &image, &why))
            continue;
        *out = image.size;
        out->channels = opaque_channels(image.size.channels);
        image_fini(&image);
        return 0;
    }
    return error_set(e, ERR_FORMAT, "%.200s: none of %zu images can be read; the last: %.200s", train->root,
                     train->count, why.text);
}

static bool is_wanted(const void *arg, const struct image_entry *x)
{
    return image_sink_keeps(arg, x->position);
}

/* The set takes over the classes' names. */
static void hand_over_classes(struct image_list *l, struct dataset *d)
{
    d->class_names = l->classes;
    d->classes = l->class_count;
    l->classes = NULL;
    l->class_count = 0;
}

/* wanted is train itself or the list of test images. */
static int load_list(struct image_list *train, struct image_list *wanted, struct image_sink *sink, struct error *e)
{
    bool labelled = train->class_count > 0 && wanted->class_count > 0;
    struct image_size first;
    int rc = image_sink_begin(sink, labelled, e);
    if (rc == 0)
        rc = first_size(train, sink, &first, e);
    if (rc == 0 && wanted != train && labelled &&
        image_list_renumber(wanted, train->classes, train->class_count, sink) != 0)
        rc = error_set(e, ERR_MEMORY, "%s: no memory for the classes", wanted->root);
    if (rc != 0)
        return rc;
    image_list_filter(wanted, is_wanted, sink);
    rc = image_sink_open(sink, wanted->count, &first, labelled, wanted->root, e);
    if (rc == 0)
        rc = load_files(wanted, sink, e);
    if (rc == 0 && labelled)
        hand_over_classes(train, sink->out);
    return rc;
}

/* With what is there instead, as far as it is known: of the problems, the last are those that name whole kinds. */
static int no_images(const struct image_list *l, const char *path, const struct dataset *d, struct error *e)
{
    char text[NEAR_MISS_MAX];
    uint32_t kept = d->problem_count < DATASET_PROBLEMS_MAX ? d->problem_count : DATASET_PROBLEMS_MAX;
    const char *known = kept > 0 ? d->problems[kept - 1] : NULL;
    if (near_miss_explain(path, text))
        return error_set(e, ERR_NOT_FOUND, "%s", text);
    return error_set(e, ERR_NOT_FOUND, "%.150s: no %s images in it%s%.250s", l->root, image_formats_read,
                     known ? "; " : "", known ? known : "");
}

/* The training images: always looked at, for the size, the ground and the classes; their problems are those of the
 * training split. */
static int read_train(const char *path, const struct folder_splits *splits, struct image_sink *sink,
                      struct image_list *train, struct error *e)
{
    sink->quiet = sink->test;
    int rc = image_list_read(splits->train, sink, train, e);
    if (rc == 0 && train->count == 0)
        rc = no_images(train, path, sink->out, e);
    if (rc == 0) {
        folder_splits_note(path, splits, sink);
        note_classes(train, splits->split, sink);
        judge_ground(train, sink);
    }
    sink->quiet = false;
    return rc;
}

static int read_split(const char *path, struct image_sink *sink, struct error *e)
{
    struct folder_splits splits;
    struct image_list train = {0}, test = {0};
    folder_splits_find(path, &splits);
    int rc = read_train(path, &splits, sink, &train, e);
    bool own_test = rc == 0 && sink->test && !sink->may_hold_out;
    if (own_test)
        rc = image_list_read(splits.test, sink, &test, e);
    if (rc == 0 && own_test && test.count > 0 && test.class_count == 0 && train.class_count > 0)
        image_sink_problem(sink, "%s: no class folders in it, so that its images have no labels", test.root);
    if (rc == 0)
        rc = load_list(&train, own_test ? &test : &train, sink, e);
    image_list_fini(&train);
    image_list_fini(&test);
    return rc;
}

const struct dataset_reader image_folder_reader = {"image folder", is_directory, has_test, read_split};
