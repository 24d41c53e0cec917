/* A depth-first walk, one directory read whole and closed before the next is opened, so that depth costs no file
 * descriptors. */
#include "worker/data/image_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/files.h"
#include "worker/data/class_index.h"
#include "worker/data/image_file.h"
#include "worker/data/image_unread.h"

struct identity {
    dev_t device;
    ino_t inode;
};

struct walk {
    struct image_list *list;
    struct image_sink *sink;
    struct error *error;
    uint32_t class;
    struct image_unread unread;
    uint32_t entries, directories;               /* visited, against the limits */
    struct identity above[FOLDER_DEPTH_MAX + 2]; /* the directories that the current one lies in */
};

enum kind { KIND_OTHER, KIND_IMAGE, KIND_DIRECTORY };

/* Names of a directory, sorted. */
struct names {
    char **names;
    size_t count, room;
};

static void names_fini(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->names[i]);
    free(n->names);
    *n = (struct names){0};
}

static int no_memory(struct walk *w)
{
    return error_set(w->error, ERR_MEMORY, "%s: no memory for the list of files", w->list->root);
}

/* Room for one more in an array that doubles. */
static void *grown(void *array, size_t count, size_t *room, size_t item)
{
    if (count < *room)
        return array;
    size_t more = *room ? 2 * *room : 64;
    void *bigger = realloc(array, more * item);
    if (bigger)
        *room = more;
    return bigger;
}

static int names_add(struct names *n, const char *name)
{
    char **bigger = grown(n->names, n->count, &n->room, sizeof *n->names);
    if (!bigger)
        return ERR_MEMORY;
    n->names = bigger;
    n->names[n->count] = strdup(name);
    return n->names[n->count] ? (n->count++, 0) : ERR_MEMORY;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int join(const struct walk *w, const char *relative, char full[DATASET_PATH_MAX])
{
    return path_format(full, DATASET_PATH_MAX, "%s%s%s", w->list->root, *relative ? "/" : "", relative);
}

static int read_entries(struct walk *w, DIR *d, struct names *out)
{
    struct dirent *x;
    while ((x = readdir(d)) != NULL) {
        if (x->d_name[0] == '.')
            continue;
        if (++w->entries > FOLDER_ENTRIES_MAX)
            return error_set(w->error, ERR_RANGE, "%s: more than %d files", w->list->root, FOLDER_ENTRIES_MAX);
        if (names_add(out, x->d_name) != 0)
            return no_memory(w);
    }
    if (out->count > 0)
        qsort(out->names, out->count, sizeof *out->names, by_bytes);
    return 0;
}

/* A directory that cannot be opened is a problem, and has no names; the root is an error. */
static int read_names(struct walk *w, const char *relative, struct names *out)
{
    char full[DATASET_PATH_MAX];
    if (++w->directories > FOLDER_DIRECTORIES_MAX)
        return error_set(w->error, ERR_RANGE, "%s: more than %d folders; do links go round in circles?", w->list->root,
                         FOLDER_DIRECTORIES_MAX);
    DIR *d = join(w, relative, full) == 0 ? opendir(full) : NULL;
    if (!d && *relative == '\0')
        return error_set(w->error, ERR_IO, "%s: %s", full, strerror(errno));
    if (!d) {
        image_sink_problem(w->sink, "%s: %s", full, strerror(errno));
        return 0;
    }
    int rc = read_entries(w, d, out);
    closedir(d);
    return rc;
}

/* What a name stands for; notes a problem when it should have been an image and is not. */
static enum kind kind_of(struct walk *w, const char *relative, struct identity *id)
{
    char full[DATASET_PATH_MAX];
    struct stat st;
    enum image_name name = image_name_kind(relative);
    if (join(w, relative, full) != 0 || stat(full, &st) != 0) {
        image_sink_problem(w->sink, "%s/%s: %s", w->list->root, relative, strerror(errno));
        return KIND_OTHER;
    }
    *id = (struct identity){st.st_dev, st.st_ino};
    if (S_ISDIR(st.st_mode))
        return KIND_DIRECTORY;
    bool named = name == IMAGE_NAME_READ || name == IMAGE_NAME_UNREAD;
    if (named && !S_ISREG(st.st_mode))
        image_sink_problem(w->sink, "%s: not a regular file", full);
    if (!S_ISREG(st.st_mode))
        return KIND_OTHER;
    return name == IMAGE_NAME_READ || image_unread_look(&w->unread, full, relative) ? KIND_IMAGE : KIND_OTHER;
}

static int add_entry(struct walk *w, const char *relative)
{
    struct image_list *l = w->list;
    struct image_entry *bigger = grown(l->entries, l->count, &l->room, sizeof *l->entries);
    if (!bigger)
        return no_memory(w);
    l->entries = bigger;
    l->entries[l->count] = (struct image_entry){.name = strdup(relative), .class = w->class};
    if (!l->entries[l->count].name)
        return no_memory(w);
    l->count++;
    return 0;
}

static bool lies_in(const struct walk *w, uint32_t depth, struct identity id)
{
    for (uint32_t i = 0; i < depth; i++)
        if (w->above[i].device == id.device && w->above[i].inode == id.inode)
            return true;
    return false;
}

static int walk_directory(struct walk *w, const char *relative, struct identity id, uint32_t depth);

static int walk_name(struct walk *w, const char *relative, uint32_t depth)
{
    struct identity id = {0};
    switch (kind_of(w, relative, &id)) {
    case KIND_IMAGE:
        return add_entry(w, relative);
    case KIND_DIRECTORY:
        return walk_directory(w, relative, id, depth);
    case KIND_OTHER:
        break;
    }
    return 0;
}

/* Everything below a class folder. depth: of directories above this one. */
static int walk_directory(struct walk *w, const char *relative, struct identity id, uint32_t depth)
{
    struct names n = {0};
    char inner[DATASET_PATH_MAX];
    if (depth > FOLDER_DEPTH_MAX || lies_in(w, depth, id)) {
        image_sink_problem(w->sink, "%s/%s: %s", w->list->root, relative,
                           depth > FOLDER_DEPTH_MAX ? "too deep" : "a link to a folder that it lies in");
        return 0;
    }
    w->above[depth] = id;
    int rc = read_names(w, relative, &n);
    for (size_t i = 0; rc == 0 && i < n.count; i++) {
        if (path_format(inner, sizeof inner, "%s/%s", relative, n.names[i]) == 0)
            rc = walk_name(w, inner, depth + 1);
        else
            image_sink_problem(w->sink, "%s/%s/%s: the path is too long", w->list->root, relative, n.names[i]);
    }
    names_fini(&n);
    return rc;
}

/* A directory below the root; it becomes a class when there is an image in it. */
static int walk_class(struct walk *w, const char *name, struct identity id, size_t *room)
{
    struct image_list *l = w->list;
    size_t before = l->count;
    w->class = l->class_count;
    int rc = walk_directory(w, name, id, 1);
    if (rc != 0)
        return rc;
    if (l->count == before) {
        image_sink_problem(w->sink, "%s/%s: a folder without images, no class", l->root, name);
        return 0;
    }
    if (l->class_count == DATASET_CLASSES_MAX)
        return error_set(w->error, ERR_RANGE, "%s: more than %d class folders", l->root, DATASET_CLASSES_MAX);
    char **bigger = grown(l->classes, l->class_count + 1, room, sizeof *l->classes), *copy = strdup(name);
    l->classes = bigger ? bigger : l->classes;
    if (!bigger || !copy) {
        free(copy);
        return no_memory(w);
    }
    l->classes[l->class_count] = copy;
    l->classes[l->class_count + 1] = NULL;
    l->class_count++;
    return 0;
}

/* What has been found has no classes. */
static void flatten(struct image_list *l)
{
    for (uint32_t i = 0; i < l->class_count; i++)
        free(l->classes[i]);
    free(l->classes);
    l->classes = NULL;
    l->class_count = 0;
    for (size_t i = 0; i < l->count; i++)
        l->entries[i].class = 0;
}

/* Class folders first; what lies loose beside them counts only when there are none, or when it is wanted. */
static int walk_root(struct walk *w, const struct names *n)
{
    struct names loose = {0};
    struct image_list *l = w->list;
    size_t room = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n->count; i++) {
        struct identity id = {0};
        enum kind kind = kind_of(w, n->names[i], &id);
        if (kind == KIND_DIRECTORY)
            rc = walk_class(w, n->names[i], id, &room);
        else if (kind == KIND_IMAGE && names_add(&loose, n->names[i]) != 0)
            rc = no_memory(w);
    }
    if (rc == 0 && loose.count > 0 && w->sink->options->loose)
        flatten(l);
    if (rc == 0 && l->class_count > 0 && loose.count > 0) {
        image_sink_problem(w->sink, "%s: %zu images beside the class folders are left out", l->root, loose.count);
        image_sink_leave_out(w->sink, loose.count);
    }
    w->class = 0;
    for (size_t i = 0; rc == 0 && l->class_count == 0 && i < loose.count; i++)
        rc = add_entry(w, loose.names[i]);
    names_fini(&loose);
    return rc;
}

static int by_class_and_name(const void *a, const void *b)
{
    const struct image_entry *x = a, *y = b;
    return x->class != y->class ? (x->class < y->class ? -1 : 1) : strcmp(x->name, y->name);
}

static int by_position(const void *a, const void *b)
{
    const struct image_entry *x = a, *y = b;
    if (x->position != y->position)
        return x->position < y->position ? -1 : 1;
    return x->class < y->class ? -1 : x->class > y->class;
}

static void order(struct image_list *l)
{
    if (l->count == 0)
        return;
    qsort(l->entries, l->count, sizeof *l->entries, by_class_and_name);
    for (size_t i = 1; i < l->count; i++)
        if (l->entries[i].class == l->entries[i - 1].class)
            l->entries[i].position = l->entries[i - 1].position + 1;
    qsort(l->entries, l->count, sizeof *l->entries, by_position);
}

int image_list_read(const char *root, struct image_sink *sink, struct image_list *out, struct error *e)
{
    struct walk w = {.list = out, .sink = sink, .error = e};
    struct names n = {0};
    struct stat st;
    memset(out, 0, sizeof *out);
    snprintf(out->root, sizeof out->root, "%s", root);
    int rc = read_names(&w, "", &n);
    if (rc == 0 && stat(root, &st) == 0)
        w.above[0] = (struct identity){st.st_dev, st.st_ino};
    if (rc == 0)
        rc = walk_root(&w, &n);
    names_fini(&n);
    if (rc != 0) {
        image_list_fini(out);
        return rc;
    }
    image_unread_report(&w.unread, root, sink);
    order(out);
    return 0;
}

void image_list_filter(struct image_list *l, bool (*keep)(const void *arg, const struct image_entry *x),
                       const void *arg)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (keep(arg, &l->entries[i]))
            l->entries[kept++] = l->entries[i];
        else
            free(l->entries[i].name);
    }
    l->count = kept;
}

static bool is_known(const void *arg, const struct image_entry *x)
{
    (void)arg;
    return x->class != UINT32_MAX;
}

/* Of each class. */
static void count_classes(const struct image_list *l, uint32_t *counts)
{
    for (size_t i = 0; i < l->count; i++)
        counts[l->entries[i].class]++;
}

/* numbers: what each class becomes. counts: its images. */
static void number_classes(const struct image_list *l, const struct class_index *index, const uint32_t *counts,
                           uint32_t *numbers, struct image_sink *sink)
{
    for (uint32_t i = 0; i < l->class_count; i++) {
        numbers[i] = class_index_find(index, l->classes[i]);
        if (numbers[i] != UINT32_MAX)
            continue;
        image_sink_problem(sink, "%s/%s: no training class of that name; its images are left out", l->root,
                           l->classes[i]);
        image_sink_leave_out(sink, counts[i]);
    }
}

int image_list_renumber(struct image_list *l, char *const *names, uint32_t n, struct image_sink *sink)
{
    struct class_index index;
    uint32_t *counts = calloc(2 * (size_t)l->class_count + 1, sizeof *counts),
             *numbers = counts ? counts + l->class_count : NULL;
    int rc = counts ? class_index_init(&index, names, n) : ERR_MEMORY;
    if (rc == 0 && l->class_count > 0) {
        count_classes(l, counts);
        number_classes(l, &index, counts, numbers, sink);
        for (size_t i = 0; i < l->count; i++)
            l->entries[i].class = numbers[l->entries[i].class];
        image_list_filter(l, is_known, NULL);
    }
    if (rc == 0)
        class_index_fini(&index);
    free(counts);
    return rc;
}

/* Bytes that two names share, up to and with their last common slash. */
static size_t common_folder(const char *a, const char *b, size_t most)
{
    size_t shared = 0;
    for (size_t i = 0; i < most && a[i] == b[i]; i++)
        if (a[i] == '/')
            shared = i + 1;
    return shared;
}

bool image_list_is_wrapped(const struct image_list *l, char folder[DATASET_PATH_MAX])
{
    if (l->count == 0)
        return false;
    const char *first = l->entries[0].name;
    size_t shared = strlen(first);
    for (size_t i = 0; i < l->count; i++)
        shared = common_folder(first, l->entries[i].name, shared);
    for (size_t i = 0; i < l->count; i++)
        if (strchr(l->entries[i].name + shared, '/') == NULL)
            return false;
    return shared > 0 && path_format(folder, DATASET_PATH_MAX, "%s/%.*s", l->root, (int)shared - 1, first) == 0;
}

/* ---- the bytes of a file ---- */

/* Up to n bytes from where the file begins; -1 with errno. O_NONBLOCK: it may have become a pipe. */
static ssize_t read_at(const struct image_list *l, const struct image_entry *x, uint8_t *out, size_t n)
{
    char full[DATASET_PATH_MAX];
    if (l->shards)
        snprintf(full, sizeof full, "%s", l->shards[x->shard]);
    else if (path_format(full, sizeof full, "%s/%s", l->root, x->name) != 0)
        return errno = ENAMETOOLONG, -1;
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t done = 0;
    ssize_t got = fd < 0 ? -1 : 1;
    while (got > 0 && done < n) {
        got = pread(fd, out + done, n - done, (off_t)(x->offset + done));
        done += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0)
        close(fd);
    return got < 0 ? -1 : (ssize_t)done;
}

size_t image_entry_peek(const struct image_list *l, const struct image_entry *x, uint8_t *out, size_t n)
{
    ssize_t got = read_at(l, x, out, l->shards && x->bytes < n ? (size_t)x->bytes : n);
    return got < 0 ? 0 : (size_t)got;
}

static int read_from_shard(const struct image_list *l, const struct image_entry *x, struct buf **out, struct error *e)
{
    if (x->bytes > IMAGE_BYTES_FILE_MAX)
        return error_set(e, ERR_RANGE, "%llu bytes, at most %d", (unsigned long long)x->bytes, IMAGE_BYTES_FILE_MAX);
    struct buf *b = buf_new(x->bytes);
    if (!b)
        return error_set(e, ERR_MEMORY, "no memory for its %llu bytes", (unsigned long long)x->bytes);
    ssize_t got = read_at(l, x, b->data, x->bytes);
    if (got == (ssize_t)x->bytes) {
        *out = b;
        return 0;
    }
    buf_unref(&b);
    return got < 0 ? error_set(e, ERR_IO, "%s", strerror(errno)) : error_set(e, ERR_FORMAT, "the archive ends in it");
}

int image_entry_read(const struct image_list *l, const struct image_entry *x, struct buf **out, struct error *e)
{
    char full[DATASET_PATH_MAX];
    if (l->shards)
        return read_from_shard(l, x, out, e);
    if (path_format(full, sizeof full, "%s/%s", l->root, x->name) != 0)
        return error_set(e, ERR_RANGE, "the path is too long");
    return file_read(full, IMAGE_BYTES_FILE_MAX, out, e);
}

void image_list_fini(struct image_list *l)
{
    for (uint32_t i = 0; i < l->shard_count; i++)
        free(l->shards[i]);
    free(l->shards);
    for (size_t i = 0; i < l->count; i++)
        free(l->entries[i].name);
    for (uint32_t i = 0; i < l->class_count; i++)
        free(l->classes[i]);
    free(l->entries);
    free(l->classes);
    memset(l, 0, sizeof *l);
}
