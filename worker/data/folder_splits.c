/* Names first; only what a name does not settle is opened. */
#include "worker/data/folder_splits.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "common/files.h"
#include "worker/data/image_file.h"

static const char *const train_names[] = {"train", "training", "trainset", NULL};
static const char *const test_names[] = {"test",   "testing", "testset",    "val", "valid", "validation",
                                         "valset", "eval",    "evaluation", "dev", NULL};

enum { GLANCE_ENTRIES_MAX = 200, GLANCE_DEPTH_MAX = 2 }; /* of a folder, to see whether it has images */

static bool is_directory(const char *path, const char *name)
{
    char full[DATASET_PATH_MAX];
    struct stat st;
    return path_format(full, sizeof full, "%s/%s", path, name) == 0 && stat(full, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The lower, the better; names in small letters go before others. INT_MAX: not among them. */
static int rank_of(const char *name, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (strcasecmp(name, names[i]) == 0)
            return 2 * i + (strcmp(name, names[i]) != 0);
    return INT_MAX;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Takes the folder when it is a better one than that in best. */
static void consider(const char *path, const char *name, const char *const *names, char best[DATASET_PATH_MAX])
{
    int rank = rank_of(name, names), held = *best ? rank_of(last_part(best), names) : INT_MAX;
    if (rank == INT_MAX || rank > held || (rank == held && strcmp(name, last_part(best)) > 0) ||
        !is_directory(path, name))
        return;
    path_format(best, DATASET_PATH_MAX, "%s/%s", path, name);
}

void folder_splits_find(const char *path, struct folder_splits *out)
{
    *out = (struct folder_splits){0};
    DIR *d = opendir(path);
    for (struct dirent *x; d && (x = readdir(d)) != NULL;) {
        consider(path, x->d_name, train_names, out->train);
        consider(path, x->d_name, test_names, out->test);
    }
    if (d)
        closedir(d);
    out->split = out->train[0] != '\0';
    if (out->split)
        return;
    snprintf(out->train, sizeof out->train, "%s", path);
    out->test[0] = '\0';
}

bool folder_name_is_of_a_split(const char *name)
{
    static const char *const stems[] = {"train", "test", "val"};
    if (rank_of(name, train_names) != INT_MAX || rank_of(name, test_names) != INT_MAX)
        return true;
    for (size_t i = 0; i < sizeof stems / sizeof stems[0]; i++) {
        size_t n = strlen(stems[i]);
        if (strncasecmp(name, stems[i], n) == 0 && !isalpha((unsigned char)name[n]))
            return true;
    }
    return false;
}

enum named_split folder_split_of_file(const char *name, int *rank)
{
    char word[16];
    for (const char *p = name; *p; p++) {
        size_t n = 0;
        while (isalpha((unsigned char)p[n]))
            n++;
        snprintf(word, sizeof word, "%.*s", n < sizeof word ? (int)n : 0, p);
        *rank = rank_of(word, test_names) / 2;
        if (rank_of(word, train_names) != INT_MAX)
            return NAMED_TRAIN;
        if (rank_of(word, test_names) != INT_MAX)
            return NAMED_TEST;
        p += n > 0 ? n - 1 : 0;
    }
    return NAMED_NONE;
}

/* ---- what lies beside ---- */

/* Whether there are images among the first entries of a folder and of those in it. */
static bool holds_images(const char *path, const char *name, int depth)
{
    char full[DATASET_PATH_MAX];
    int seen = 0;
    bool found = false;
    if (path_format(full, sizeof full, "%s/%s", path, name) != 0)
        return false;
    DIR *d = opendir(full);
    for (struct dirent *x; !found && d && seen < GLANCE_ENTRIES_MAX && (x = readdir(d)) != NULL; seen++) {
        if (x->d_name[0] == '.')
            continue;
        enum image_name kind = image_name_kind(x->d_name);
        found = kind == IMAGE_NAME_READ || kind == IMAGE_NAME_UNREAD ||
                (depth < GLANCE_DEPTH_MAX && is_directory(full, x->d_name) && holds_images(full, x->d_name, depth + 1));
    }
    if (d)
        closedir(d);
    return found;
}

bool folder_holds_images(const char *path)
{
    return holds_images(path, ".", 0);
}

static int is_visible(const struct dirent *x)
{
    return x->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void note_beside(const char *path, const struct folder_splits *s, const char *name, uint64_t *loose,
                        struct image_sink *sink)
{
    const char *train = last_part(s->train), *test = *s->test ? last_part(s->test) : "";
    if (strcmp(name, train) == 0 || strcmp(name, test) == 0)
        return;
    if (!is_directory(path, name))
        *loose += image_name_kind(name) == IMAGE_NAME_READ;
    else if (folder_name_is_of_a_split(name))
        image_sink_note(sink, "%.200s/%.100s is not read: the splits are %.60s%s%.60s", path, name, train,
                        *test ? " and " : "", test);
    else if (holds_images(path, name, 0))
        image_sink_problem(sink,
                           "%.200s/%.100s holds images and is not read: %.60s is taken as the training split; put "
                           "class folders into it, or rename it when it is a class itself",
                           path, name, train);
}

void folder_splits_note(const char *path, const struct folder_splits *s, struct image_sink *sink)
{
    struct dirent **names = NULL;
    uint64_t loose = 0;
    if (!s->split)
        return;
    const char *train = last_part(s->train), *test = *s->test ? last_part(s->test) : "test";
    if (strcmp(train, "train") != 0 || strcmp(test, "test") != 0)
        image_sink_note(sink, "the training images are those of %.60s/, the test images those of %.60s%s", train,
                        *s->test ? test : "no folder", *s->test ? "/" : "");
    int n = scandir(path, &names, is_visible, by_bytes);
    for (int i = 0; i < n; i++) {
        note_beside(path, s, names[i]->d_name, &loose, sink);
        free(names[i]);
    }
    free(names);
    if (loose > 0)
        image_sink_problem(sink, "%.200s: %llu images beside %.60s/ are left out", path, (unsigned long long)loose,
                           train);
    image_sink_leave_out(sink, loose);
}
