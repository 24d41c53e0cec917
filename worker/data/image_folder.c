/* A directory of image files: class folders or flat (image_list.h), with optional splits (folder_splits.h),
 *     DIR/train/...   DIR/test/... or DIR/val/...
 * A directory without train/ is the training split itself. Test images get the labels of the training classes with
 * their names. */
#include <sys/stat.h>
#include "worker/data/class_index.h"
#include "worker/data/folder_splits.h"
#include "worker/data/image_file.h"
#include "worker/data/image_load.h"
#include "worker/data/reader.h"

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
                           split ? "move those folders up" : "name it when they are the classes");
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

/* Of the problems, the last are those that name whole kinds. */
static int no_images(const struct image_list *l, const struct dataset *d, struct error *e)
{
    uint32_t kept = d->problem_count < DATASET_PROBLEMS_MAX ? d->problem_count : DATASET_PROBLEMS_MAX;
    const char *known = kept > 0 ? d->problems[kept - 1] : NULL;
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
        rc = no_images(train, sink->out, e);
    if (rc == 0) {
        folder_splits_note(path, splits, sink);
        note_classes(train, splits->split, sink);
        image_load_judge(train, sink);
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
        rc = image_load(&train, own_test ? &test : &train, sink, e);
    image_list_fini(&train);
    image_list_fini(&test);
    return rc;
}

const struct dataset_reader image_folder_reader = {"image folder", is_directory, has_test, read_split};
