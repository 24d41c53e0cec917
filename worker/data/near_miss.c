/* Directories are walked in the order of their names, so that the same files give the same explanation. */
#include "worker/data/near_miss.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "worker/data/idx_names.h"
#include "worker/data/image_file.h"
#include "worker/data/reader.h"

enum {
    DEPTH_MAX = 4,         /* torchvision has two folders around the files of MNIST */
    DIRECTORIES_MAX = 500, /* looked into; an explanation should not take longer than the load */
    START_MAX = 300,       /* bytes of a file's start: a tar archive says so at byte 257 */
};

/* ---- names ---- */

static int is_visible(const struct dirent *x)
{
    return x->d_name[0] != '.';
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

static bool has_type(const char *directory, const char *name, mode_t type)
{
    char full[DATASET_PATH_MAX];
    struct stat st;
    return path_format(full, sizeof full, "%s/%s", directory, name) == 0 && stat(full, &st) == 0 &&
           (st.st_mode & S_IFMT) == type;
}

static bool has_file(const char *directory, const char *name)
{
    return has_type(directory, name, S_IFREG);
}

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n > m && strcasecmp(name + n - m, ending) == 0;
}

/* ---- IDX ---- */

static bool explain_idx(const char *directory, char text[NEAR_MISS_MAX])
{
    static const char *const wanted[] = {"train-images-idx3-ubyte", "t10k-images-idx3-ubyte"};
    char name[256];
    for (size_t i = 0; i < 2; i++)
        if (idx_near_name(directory, wanted[i], name)) {
            snprintf(text, NEAR_MISS_MAX,
                     "%.200s/%.80s looks like an IDX file: it is read under the name %s, with or without .gz; rename "
                     "it and its companions alike (train-labels-idx1-ubyte, t10k-...)",
                     directory, name, wanted[i]);
            return true;
        }
    return false;
}

/* ---- what else is known ---- */

static bool explain_pickles(const char *directory, char text[NEAR_MISS_MAX])
{
    bool ten = has_file(directory, "data_batch_1") || has_file(directory, "test_batch");
    bool hundred = has_file(directory, "meta") && (has_file(directory, "train") || has_file(directory, "test"));
    if (!ten && !hundred)
        return false;
    snprintf(text, NEAR_MISS_MAX,
             "%.250s holds CIFAR-%s in its Python version (pickles, which are programs and never loaded); fetch the "
             "binary version, %s, and name the folder of %s",
             directory, ten ? "10" : "100", ten ? "cifar-10-binary.tar.gz" : "cifar-100-binary.tar.gz",
             ten ? "data_batch_1.bin" : "train.bin");
    return true;
}

static bool explain_inner(const char *directory, char text[NEAR_MISS_MAX])
{
    const struct dataset_reader *inner = idx_reader.recognises(directory)     ? &idx_reader
                                         : cifar_reader.recognises(directory) ? &cifar_reader
                                                                              : NULL;
    if (inner)
        snprintf(text, NEAR_MISS_MAX, "the images (%s) lie further in: name %.350s", inner->name, directory);
    return inner != NULL;
}

#define GUNZIP "gunzip it and name the .tar, if it holds tar shards; else unpack it, and name what comes out"
static const struct {
    const char *ending, *what, *remedy;
} foreign[] = {
    {".npz", "a NumPy archive", "name the file itself"},
    {".npy", "a NumPy array", "name the file itself"},
    {".tar", "an archive", "unpack it, and name what comes out"},
    {".tar.gz", "a compressed archive", GUNZIP},
    {".tgz", "a compressed archive", GUNZIP},
    {".zip", "an archive", "unpack it, and name what comes out"},
    {".7z", "an archive", "unpack it, and name what comes out"},
    {".rar", "an archive", "unpack it, and name what comes out"},
    {".tar.bz2", "an archive", "unpack it, and name what comes out"},
    {".tar.xz", "an archive", "unpack it, and name what comes out"},
    {".parquet", "Parquet, which is not read", "save the images as files in class folders or as an .npz archive"},
    {".arrow", "Arrow, which is not read", "save the images as files in class folders or as an .npz archive"},
    {".tfrecord", "TFRecord, which is not read", "save the images as files in class folders or as an .npz archive"},
    {".h5", "HDF5, which is not read", "save its arrays as an .npz archive"},
    {".hdf5", "HDF5, which is not read", "save its arrays as an .npz archive"},
    {".mat", "a Matlab file, which is not read", "save its arrays as an .npz archive"},
    {".pt", "a PyTorch file, which is not read", "save its tensors as arrays of an .npz archive"},
    {".pth", "a PyTorch file, which is not read", "save its tensors as arrays of an .npz archive"},
    {".pkl", "a pickle, which is a program and never loaded", "save its arrays as an .npz archive"},
    {".pickle", "a pickle, which is a program and never loaded", "save its arrays as an .npz archive"},
    {".mdb", "LMDB, which is not read", "save the images as files in class folders or as an .npz archive"},
};

static bool explain_name(const char *directory, const char *name, char text[NEAR_MISS_MAX])
{
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (ends_with(name, foreign[i].ending)) {
            snprintf(text, NEAR_MISS_MAX, "%.220s%s%.80s is %s; %s", directory, *directory ? "/" : "", name,
                     foreign[i].what, foreign[i].remedy);
            return true;
        }
    return false;
}

/* ---- directories ---- */

static bool explain_sets(const char *directory, int depth, char text[NEAR_MISS_MAX])
{
    return (depth > 0 && explain_inner(directory, text)) || explain_idx(directory, text) ||
           explain_pickles(directory, text);
}

static bool explain_foreign(const char *directory, int depth, char text[NEAR_MISS_MAX])
{
    struct dirent **names = NULL;
    int n = scandir(directory, &names, is_visible, by_bytes);
    bool found = false;
    (void)depth;
    for (int i = 0; i < n && !found; i++)
        found = has_file(directory, names[i]->d_name) && explain_name(directory, names[i]->d_name, text);
    names_free(names, n);
    return found;
}

/* The directory, then those in it. left: directories that may still be looked into. */
static bool explain_below(const char *directory, int depth, int *left,
                          bool (*explain)(const char *directory, int depth, char text[NEAR_MISS_MAX]),
                          char text[NEAR_MISS_MAX])
{
    struct dirent **names = NULL;
    char inner[DATASET_PATH_MAX];
    if ((*left)-- <= 0)
        return false;
    if (explain(directory, depth, text))
        return true;
    int n = depth < DEPTH_MAX ? scandir(directory, &names, is_visible, by_bytes) : 0;
    bool found = false;
    for (int i = 0; i < n && !found; i++)
        found = has_type(directory, names[i]->d_name, S_IFDIR) &&
                path_format(inner, sizeof inner, "%s/%s", directory, names[i]->d_name) == 0 &&
                explain_below(inner, depth + 1, left, explain, text);
    names_free(names, n);
    return found;
}

/* ---- files ---- */

static bool explain_content(const char *path, const uint8_t *start, size_t size, char text[NEAR_MISS_MAX])
{
    bool readable = false;
    const char *image = image_format_of(start, size, &readable);
    bool gzip = size >= 2 && memcmp(start, "\x1f\x8b", 2) == 0;
    bool idx = size >= 4 && start[0] == 0 && start[1] == 0 && start[2] == 8 && start[3] >= 1 && start[3] <= 4;
    if (image && strcmp(image, "HTML") == 0)
        snprintf(text, NEAR_MISS_MAX, "%.300s is an HTML page: the download failed; fetch it again", path);
    else if (image && !readable)
        snprintf(text, NEAR_MISS_MAX, "%.300s is of format %s, which is not read; convert it to PNG or JPEG", path,
                 image);
    else if (image)
        snprintf(text, NEAR_MISS_MAX, "%.300s is one image (%s); name a folder of images", path, image);
    else if (size > 262 && memcmp(start + 257, "ustar", 5) == 0)
        snprintf(text, NEAR_MISS_MAX, "%.300s is an archive; unpack it, and name what comes out", path);
    else if (idx || (gzip && strstr(path, "ubyte")))
        snprintf(text, NEAR_MISS_MAX, "%.300s is one file of an IDX set; name its directory", path);
    else
        return false;
    return true;
}

static bool explain_file(const char *path, char text[NEAR_MISS_MAX])
{
    uint8_t start[START_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : read(fd, start, sizeof start);
    if (fd >= 0)
        close(fd);
    return (got > 0 && explain_content(path, start, (size_t)got, text)) || explain_name("", path, text);
}

bool near_miss_explain(const char *path, char text[NEAR_MISS_MAX])
{
    struct stat st;
    if (stat(path, &st) != 0)
        return false;
    if (!S_ISDIR(st.st_mode))
        return S_ISREG(st.st_mode) && explain_file(path, text);
    int sets = DIRECTORIES_MAX, others = DIRECTORIES_MAX;
    return explain_below(path, 0, &sets, explain_sets, text) || explain_below(path, 0, &others, explain_foreign, text);
}
