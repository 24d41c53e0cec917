/* libarchive reads the headers, in whichever of tar's dialects, and skips what is not asked for. */
#include "worker/data/tar_list.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "worker/data/image_file.h"

enum {
    BLOCK_BYTES = 1 << 16,
    CLS_BYTES_MAX = 16,          /* of a .cls file: a number and a newline */
    RECOGNISE_ENTRIES_MAX = 200, /* looked at for an image before an archive is taken for something else */
    SAMPLE_NAME_MAX = 512,
};
#define NO_LABEL UINT32_MAX

struct sample {
    char key[SAMPLE_NAME_MAX], name[SAMPLE_NAME_MAX];
    uint64_t offset, bytes;
    uint32_t label;
    bool image;  /* there is one */
    bool unread; /* there is one by its name that is not read; it is in `name` as long as there is no other */
};

struct tar {
    struct archive *archive;
    const char *path;
    uint64_t size; /* of the file */
    struct image_list *list;
    size_t room; /* of its entries */
    uint32_t entries;
    struct sample sample; /* that is being gathered */
    uint64_t unread;      /* samples that have no image but such as are not read */
    char first_unread[SAMPLE_NAME_MAX];
    uint64_t bare; /* samples that have a label and no image */
    char first_bare[SAMPLE_NAME_MAX];
};

static int tar_open(struct tar *t, struct error *e)
{
    struct stat st;
    if (stat(t->path, &st) != 0 || !S_ISREG(st.st_mode))
        return error_set(e, ERR_IO, "%s: not a regular file that can be read", t->path);
    t->size = (uint64_t)st.st_size;
    t->archive = archive_read_new();
    if (!t->archive)
        return error_set(e, ERR_MEMORY, "%s: no memory for libarchive", t->path);
    if (archive_read_support_format_tar(t->archive) == ARCHIVE_OK &&
        archive_read_open_filename(t->archive, t->path, BLOCK_BYTES) == ARCHIVE_OK)
        return 0;
    return error_set(e, ERR_IO, "%s: %s", t->path, archive_error_string(t->archive));
}

static void tar_close(struct tar *t)
{
    if (t->archive)
        archive_read_free(t->archive);
    t->archive = NULL;
}

/* The next entry: 1, 0 at the end, or an error. */
static int next_entry(struct tar *t, struct archive_entry **entry, struct error *e)
{
    int rc = archive_read_next_header(t->archive, entry);
    if (rc == ARCHIVE_EOF)
        return 0;
    if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN) /* warnings are about names and owners */
        return error_set(e, ERR_FORMAT, "%.250s: damaged (%.150s); fetch it again", t->path,
                         archive_error_string(t->archive));
    if (++t->entries > FOLDER_ENTRIES_MAX)
        return error_set(e, ERR_RANGE, "%s: more than %d files", t->path, FOLDER_ENTRIES_MAX);
    return 1;
}

/* The part after the first dot of the last component; the key is what comes before. NULL when there is none. */
static const char *ending_of(const char *name)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name, *dot = strchr(base, '.');
    return dot && dot > base && dot[1] ? dot + 1 : NULL;
}

static bool is_image(const char *name)
{
    const char *ending = ending_of(name);
    return ending && strchr(ending, '.') == NULL && image_name_kind(name) == IMAGE_NAME_READ;
}

/* NULL when the entry is no file with a name that can be a sample's. */
static const char *name_of(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    bool usable = name && archive_entry_filetype(entry) == AE_IFREG && archive_entry_sparse_count(entry) == 0 &&
                  strlen(name) < SAMPLE_NAME_MAX && ending_of(name);
    return usable ? name : NULL;
}

static int add_sample(struct tar *t, struct error *e)
{
    struct image_list *l = t->list;
    if (!t->sample.image && t->sample.unread && t->unread++ == 0)
        memcpy(t->first_unread, t->sample.name, sizeof t->first_unread);
    if (!t->sample.image && !t->sample.unread && t->sample.label != NO_LABEL && t->bare++ == 0)
        memcpy(t->first_bare, t->sample.key, sizeof t->first_bare);
    if (!t->sample.image)
        return 0;
    if (l->count == t->room) {
        size_t more = t->room ? 2 * t->room : 256;
        struct image_entry *bigger = realloc(l->entries, more * sizeof *bigger);
        if (!bigger)
            return error_set(e, ERR_MEMORY, "%s: no memory for the list of images", t->path);
        l->entries = bigger;
        t->room = more;
    }
    char name[SAMPLE_NAME_MAX + 256];
    const char *slash = strrchr(t->path, '/');
    snprintf(name, sizeof name, "%.250s/%s", slash ? slash + 1 : t->path, t->sample.name);
    l->entries[l->count] = (struct image_entry){
        .name = strdup(name),
        .class = t->sample.label,
        .position = (uint32_t)l->count,
        .shard = l->shard_count - 1,
        .offset = t->sample.offset,
        .bytes = t->sample.bytes,
    };
    if (!l->entries[l->count].name)
        return error_set(e, ERR_MEMORY, "%s: no memory for the list of images", t->path);
    l->count++;
    return 0;
}

/* The number in a .cls file; NO_LABEL, and a problem, when there is none. */
static uint32_t read_label(struct tar *t, const char *name, struct image_sink *sink)
{
    char text[CLS_BYTES_MAX + 1] = "";
    la_ssize_t got = archive_read_data(t->archive, text, CLS_BYTES_MAX);
    char *end = text;
    unsigned long label = got > 0 && isdigit((unsigned char)text[0]) ? strtoul(text, &end, 10) : 0;
    end += strspn(end, " \r\n");
    if (end > text && *end == '\0' && label < DATASET_CLASSES_MAX)
        return (uint32_t)label;
    image_sink_problem(sink, "%.250s/%.150s: no number in 0..%d", t->path, name, DATASET_CLASSES_MAX - 1);
    return NO_LABEL;
}

/* One file of the sample. An image that is read goes before one that is not. */
static void take_file(struct tar *t, struct archive_entry *entry, const char *name, struct image_sink *sink)
{
    struct sample *s = &t->sample;
    enum image_name kind = image_name_kind(name);
    bool image = is_image(name);
    if (strcmp(ending_of(name), "cls") == 0)
        s->label = read_label(t, name, sink);
    if (s->image || (kind != IMAGE_NAME_READ && kind != IMAGE_NAME_UNREAD) || (s->unread && !image))
        return;
    s->image = image;
    s->unread = !image;
    s->offset = (uint64_t)archive_filter_bytes(t->archive, 0);
    s->bytes = (uint64_t)archive_entry_size(entry);
    snprintf(s->name, sizeof s->name, "%s", name);
}

static int take_entry(struct tar *t, struct archive_entry *entry, struct image_sink *sink, struct error *e)
{
    const char *name = name_of(entry);
    if (!name)
        return 0;
    size_t key = (size_t)(ending_of(name) - name);
    if (strncmp(t->sample.key, name, key) != 0 || t->sample.key[key] != '\0') {
        int rc = add_sample(t, e);
        if (rc != 0)
            return rc;
        t->sample = (struct sample){.label = NO_LABEL};
        memcpy(t->sample.key, name, key);
    }
    take_file(t, entry, name, sink);
    return 0;
}

static int keep_path(struct image_list *l, const char *path, struct error *e)
{
    char **bigger = realloc(l->shards, (l->shard_count + 1) * sizeof *bigger);
    if (bigger)
        l->shards = bigger;
    if (!bigger || (bigger[l->shard_count] = strdup(path)) == NULL)
        return error_set(e, ERR_MEMORY, "%s: no memory for the list of archives", path);
    l->shard_count++;
    return 0;
}

int tar_list_add(struct image_list *l, const char *path, struct image_sink *sink, struct error *e)
{
    struct tar t = {.path = path, .list = l, .room = l->count, .sample = {.label = NO_LABEL}};
    struct archive_entry *entry;
    int rc = keep_path(l, path, e), more = 1;
    if (rc == 0)
        rc = tar_open(&t, e);
    while (rc == 0 && (more = next_entry(&t, &entry, e)) > 0)
        rc = take_entry(&t, entry, sink, e);
    if (rc == 0)
        rc = more < 0 ? more : add_sample(&t, e);
    tar_close(&t);
    if (rc == 0 && t.unread > 0) {
        image_sink_problem(sink,
                           "%.200s: %llu samples without an image that is read (the first has %.150s); call it KEY.jpg",
                           path, (unsigned long long)t.unread, t.first_unread);
        image_sink_leave_out(sink, t.unread);
    }
    if (rc == 0 && t.bare > 0)
        image_sink_problem(sink, "%.200s: %llu sample%s with a label and without an image (the first is %.150scls)",
                           path, (unsigned long long)t.bare, t.bare == 1 ? "" : "s", t.first_bare);
    return rc;
}

/* Whether the images lie in several folders of their archives, as those of classes do. */
static bool lie_in_folders(const struct image_list *l)
{
    const char *first = NULL;
    size_t length = 0;
    for (size_t i = 0; i < l->count; i++) {
        const char *name = strchr(l->entries[i].name, '/') + 1, *slash = strrchr(name, '/');
        size_t n = slash ? (size_t)(slash - name) : 0;
        if (first && (n != length || strncmp(first, name, n) != 0))
            return true;
        first = name;
        length = n;
    }
    return false;
}

void tar_list_close(struct image_list *l, struct image_sink *sink)
{
    size_t labelled = 0;
    for (size_t i = 0; i < l->count; i++)
        labelled += l->entries[i].class != NO_LABEL;
    l->numbered = l->count > 0 && labelled == l->count;
    if (l->numbered)
        return;
    if (labelled > 0)
        image_sink_problem(sink, "%.200s: %zu of %zu samples have no label in a .cls file, so that none is used",
                           l->root, l->count - labelled, l->count);
    else if (lie_in_folders(l))
        image_sink_problem(
            sink,
            "%.200s: folders in archives are no classes; give each image a .cls file with the number of its "
            "class, or unpack the archives into a folder of classes",
            l->root);
    for (size_t i = 0; i < l->count; i++)
        l->entries[i].class = 0;
}

bool tar_list_recognises(const char *path)
{
    struct tar t = {.path = path};
    struct archive_entry *entry;
    bool found = false;
    if (tar_open(&t, NULL) == 0)
        while (!found && t.entries < RECOGNISE_ENTRIES_MAX && next_entry(&t, &entry, NULL) > 0) {
            const char *name = name_of(entry);
            found = name && is_image(name);
        }
    tar_close(&t);
    return found;
}
