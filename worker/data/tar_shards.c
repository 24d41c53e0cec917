/* Tar archives of the WebDataset layout (tar_list.h): one file, or a directory of files called *.tar. Splits are
 * folders (folder_splits.h) with the archives in them, or words in the archives' names: train-000.tar, val-000.tar.
 * Without either, all are training images. Compressed archives are not read: images in them cannot be found without
 * unpacking all that comes before. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "common/files.h"
#include "worker/data/folder_splits.h"
#include "worker/data/image_file.h"
#include "worker/data/image_load.h"
#include "worker/data/reader.h"
#include "worker/data/tar_list.h"

/* Where a split's archives are: those in directory that `kind` and, for test images, rank pick. */
struct shards {
    char directory[DATASET_PATH_MAX];
    bool by_name; /* only those whose names speak of kind */
    enum named_split kind;
    int rank; /* of the test split that is taken */
};

struct layout {
    struct shards train, test;
    bool has_test;
};

static bool has_type(const char *path, mode_t type)
{
    struct stat st;
    return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == type;
}

static int is_archive(const struct dirent *x)
{
    size_t n = strlen(x->d_name);
    return x->d_name[0] != '.' && n > 4 && strcasecmp(x->d_name + n - 4, ".tar") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void names_free(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++)
        free(names[i]);
    free(names);
}

static bool has_archives(const char *directory)
{
    struct dirent **names = NULL;
    int n = scandir(directory, &names, is_archive, by_bytes);
    names_free(names, n);
    return n > 0;
}

/* By the words in the names, when one of them is of training. */
static void find_by_name(const char *path, struct layout *out)
{
    struct dirent **names = NULL;
    int n = scandir(path, &names, is_archive, by_bytes), best = -1, rank;
    bool train = false;
    for (int i = 0; i < n; i++) {
        enum named_split kind = folder_split_of_file(names[i]->d_name, &rank);
        train = train || kind == NAMED_TRAIN;
        if (kind == NAMED_TEST && (best < 0 || rank < best))
            best = rank;
    }
    names_free(names, n);
    out->train = (struct shards){.by_name = train, .kind = NAMED_TRAIN};
    out->test = (struct shards){.by_name = true, .kind = NAMED_TEST, .rank = best};
    out->has_test = train && best >= 0;
    snprintf(out->train.directory, sizeof out->train.directory, "%s", path);
    snprintf(out->test.directory, sizeof out->test.directory, "%s", path);
}

static bool find_layout(const char *path, struct layout *out)
{
    struct folder_splits splits;
    *out = (struct layout){0};
    if (has_archives(path)) {
        find_by_name(path, out);
        return true;
    }
    folder_splits_find(path, &splits);
    if (!splits.split || !has_archives(splits.train))
        return false;
    snprintf(out->train.directory, sizeof out->train.directory, "%s", splits.train);
    snprintf(out->test.directory, sizeof out->test.directory, "%s", splits.test);
    out->has_test = splits.test[0] != '\0' && has_archives(splits.test);
    return true;
}

static bool is_wanted(const struct shards *s, const char *name)
{
    int rank;
    enum named_split kind = folder_split_of_file(name, &rank);
    return !s->by_name || (kind == s->kind && (kind == NAMED_TRAIN || rank == s->rank));
}

/* ---- the reader ---- */

/* The first archive must have an image in it: a packed folder of something else is no set. A directory with images
 * beside its archives is a folder of images. */
static bool directory_recognised(const char *path)
{
    struct layout layout;
    struct dirent **names = NULL;
    char first[DATASET_PATH_MAX];
    if (!find_layout(path, &layout) || folder_holds_images(path))
        return false;
    int n = scandir(layout.train.directory, &names, is_archive, by_bytes);
    bool found = n > 0 && path_format(first, sizeof first, "%s/%s", layout.train.directory, names[0]->d_name) == 0 &&
                 tar_list_recognises(first);
    names_free(names, n);
    return found;
}

static bool recognises(const char *path)
{
    return has_type(path, S_IFDIR) ? directory_recognised(path) : tar_list_recognises(path);
}

static bool has_test(const char *path)
{
    struct layout layout;
    return has_type(path, S_IFDIR) && find_layout(path, &layout) && layout.has_test;
}

static int list_directory(const struct shards *s, struct image_sink *sink, struct image_list *out, struct error *e)
{
    struct dirent **names = NULL;
    char full[DATASET_PATH_MAX];
    int rc = 0, n = scandir(s->directory, &names, is_archive, by_bytes);
    if (n < 0)
        return error_set(e, ERR_IO, "%s: %s", s->directory, strerror(errno));
    for (int i = 0; i < n && rc == 0; i++)
        if (!is_wanted(s, names[i]->d_name))
            continue;
        else if (path_format(full, sizeof full, "%s/%s", s->directory, names[i]->d_name) != 0)
            rc = error_set(e, ERR_RANGE, "%.400s: the path is too long", names[i]->d_name);
        else
            rc = tar_list_add(out, full, sink, e);
    names_free(names, n);
    return rc;
}

/* s NULL: path is an archive itself. */
static int list_shards(const char *path, const struct shards *s, struct image_sink *sink, struct image_list *out,
                       struct error *e)
{
    snprintf(out->root, sizeof out->root, "%s", s ? s->directory : path);
    int rc = s ? list_directory(s, sink, out, e) : tar_list_add(out, path, sink, e);
    if (rc == 0)
        tar_list_close(out, sink);
    return rc;
}

/* What is not read, once: with the training images. */
static void note_unread(const struct layout *layout, struct image_sink *sink)
{
    struct dirent **names = NULL;
    int n = layout->train.by_name ? scandir(layout->train.directory, &names, is_archive, by_bytes) : 0;
    for (int i = 0; i < n; i++)
        if (!is_wanted(&layout->train, names[i]->d_name) &&
            !(layout->has_test && is_wanted(&layout->test, names[i]->d_name)))
            image_sink_note(sink, "%.300s/%.100s is not read: its name is of neither split that is taken",
                            layout->train.directory, names[i]->d_name);
    names_free(names, n);
}

static int read_split(const char *path, struct image_sink *sink, struct error *e)
{
    struct layout layout = {0};
    struct image_list train = {0}, test = {0};
    bool directory = has_type(path, S_IFDIR);
    if (directory && !find_layout(path, &layout))
        return error_set(e, ERR_NOT_FOUND, "%s: the archives are gone", path);
    sink->quiet = sink->test;
    int rc = list_shards(path, directory ? &layout.train : NULL, sink, &train, e);
    if (rc == 0 && train.count == 0)
        rc = error_set(e, ERR_NOT_FOUND, "%s: no %s images in its training archives", path, image_formats_read);
    if (rc == 0) {
        note_unread(&layout, sink);
        image_load_judge(&train, sink);
    }
    sink->quiet = false;
    bool own_test = rc == 0 && sink->test && !sink->may_hold_out;
    if (own_test)
        rc = list_shards(path, &layout.test, sink, &test, e);
    if (rc == 0 && own_test && train.numbered && test.count > 0 && !test.numbered)
        image_sink_problem(sink, "%s: its test archives have no labels", path);
    if (rc == 0)
        rc = image_load(&train, own_test ? &test : &train, sink, e);
    image_list_fini(&train);
    image_list_fini(&test);
    return rc;
}

const struct dataset_reader tar_reader = {"tar shards", recognises, has_test, read_split};
