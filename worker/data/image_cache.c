/* The file, in the machine's byte order (another machine's has another magic number, read as bytes):
 *
 *   0      struct header
 *   4096   images, (N,H,W,C) bytes
 *          zeros up to a multiple of 8, then labels, (N) 16 bits each, when there are any
 *          words: the format's name, names of classes, problems, notes; each ends with a NUL
 *
 * checksum: XXH64 of the header in which it is 0 itself and of everything from 4096 on. */
#include "worker/data/image_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>
#include "common/files.h"
#include "common/path_list.h"
#include "worker/data/dataset_one.h"

enum { IMAGES_AT = 4096, FORMAT_VERSION = 1, LOOSE_KEY = 1 << 16, WORDS_MAX = 1 << 24, LOCK_PACE_MS = 50 };

static const uint64_t magic = UINT64_C(0x31676d69746e6364); /* "dcntimg1" */

struct header {
    uint64_t magic, checksum, source, images_bytes, words_bytes;
    uint32_t count, height, width, channels, classes, labelled, named;
    uint32_t holdout, skipped, problem_count, problems, notes; /* problems: in words, of problem_count */
    struct dataset_sizes sizes;
};

/* ---- which file it is ---- */

static int default_directory(char *out, size_t size, struct error *e)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/')
        return path_format(out, size, "%s/decant", cache);
    if (home && home[0] == '/')
        return path_format(out, size, "%s/.cache/decant", home);
    return error_set(e, ERR_CONFIG,
                     "data.cache = file: neither XDG_CACHE_HOME nor HOME says where; set "
                     "data.cache_directory");
}

static void hash_text(XXH64_state_t *h, const char *text)
{
    XXH64_update(h, text, strlen(text) + 1);
}

static uint64_t hash_entry(const FTSENT *x, size_t root_length)
{
    const struct stat *st = x->fts_statp;
    const int64_t numbers[] = {st->st_size,        st->st_mtim.tv_sec,  st->st_mtim.tv_nsec,
                               st->st_ctim.tv_sec, st->st_ctim.tv_nsec, x->fts_info};
    return XXH64(x->fts_path + root_length, strlen(x->fts_path + root_length), XXH64(numbers, sizeof numbers, 0));
}

/* The sum over all files below root, so that the order of a directory does not matter. */
static int hash_files(char *root, uint64_t *sum, struct error *e)
{
    char *const roots[] = {root, NULL};
    size_t length = strlen(root), entries = 0;
    FTS *tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL)
        return error_set(e, ERR_IO, "%s: %s", root, strerror(errno));
    *sum = 0;
    for (FTSENT *x; entries <= FOLDER_ENTRIES_MAX && (x = fts_read(tree)) != NULL; entries++)
        if (x->fts_info == FTS_F)
            *sum += hash_entry(x, length);
    fts_close(tree);
    return entries <= FOLDER_ENTRIES_MAX
               ? 0
               : error_set(e, ERR_RANGE, "%s: more than %d files and folders", root, FOLDER_ENTRIES_MAX);
}

/* Both hashes take in every path; `source` also what is there. */
static int hash_path(XXH64_state_t *place, XXH64_state_t *source, const char *path, struct error *e)
{
    uint64_t files;
    char *real = realpath(path, NULL);
    if (real == NULL)
        return error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
    int rc = hash_files(real, &files, e);
    hash_text(place, real);
    hash_text(source, real);
    XXH64_update(source, &files, sizeof files);
    free(real);
    return rc;
}

static int hash_sources(struct image_cache *c, const struct dataset_options *o, enum dataset_split split,
                        struct error *e)
{
    const uint32_t options[] = {FORMAT_VERSION + (o->loose ? LOOSE_KEY : 0),
                                o->limit,
                                o->side,
                                o->channels,
                                o->holdout,
                                o->background,
                                split,
                                sizeof(struct header)};
    char path[DATASET_PATH_MAX];
    XXH64_state_t *place = XXH64_createState(), *source = XXH64_createState();
    int rc = place && source ? 0 : error_set(e, ERR_MEMORY, "no memory");
    if (rc == 0) {
        XXH64_reset(place, 0);
        XXH64_reset(source, 1);
        XXH64_update(place, options, sizeof options);
        XXH64_update(source, options, sizeof options);
    }
    for (const char *rest = o->path; rc == 0 && rest != NULL;) {
        rest = path_list_next(rest, path, sizeof path);
        rc = hash_path(place, source, path, e);
    }
    if (rc == 0) {
        c->place = XXH64_digest(place);
        c->source = XXH64_digest(source);
    }
    XXH64_freeState(place);
    XXH64_freeState(source);
    return rc;
}

int image_cache_place(const struct dataset_options *o, char directory[IMAGE_CACHE_DIRECTORY_MAX], struct error *e)
{
    struct error why = {0};
    bool named = o->cache_directory && o->cache_directory[0];
    int rc = named ? path_format(directory, IMAGE_CACHE_DIRECTORY_MAX, "%s", o->cache_directory)
                   : default_directory(directory, IMAGE_CACHE_DIRECTORY_MAX, e);
    if (rc != 0)
        return rc == ERR_RANGE ? error_set(e, rc, "data.cache_directory is too long") : rc;
    if (dir_make(directory, &why) == 0 && access(directory, W_OK | X_OK) == 0)
        return 0;
    return error_set(e, ERR_CONFIG, "data.cache = file: %.250s cannot be written to (%.150s); set data.cache_directory",
                     directory, why.code ? why.text : strerror(errno));
}

int image_cache_open(struct image_cache *c, const struct dataset_options *o, enum dataset_split split, struct error *e)
{
    *c = (struct image_cache){.lock = -1, .store.fd = -1};
    int rc = image_cache_place(o, c->directory, e);
    if (rc == 0)
        rc = hash_sources(c, o, split, e);
    snprintf(c->path, sizeof c->path, "%s/%016llx-%016llx.images", c->directory, (unsigned long long)c->place,
             (unsigned long long)c->source);
    snprintf(c->unfinished, sizeof c->unfinished, "%s.inprogress", c->path);
    return rc;
}

void image_cache_close(struct image_cache *c)
{
    if (c->store.fd >= 0) {
        close(c->store.fd);
        unlink(c->unfinished); /* still there only when nothing came of it */
    }
    if (c->lock >= 0)
        close(c->lock);
    c->store.fd = c->lock = -1;
}

/* ---- reading ---- */

static uint64_t labels_at(const struct header *h)
{
    return (IMAGES_AT + h->images_bytes + 7) / 8 * 8;
}

static uint64_t labels_bytes(const struct header *h)
{
    return h->labelled ? (uint64_t)h->count * sizeof(uint16_t) : 0;
}

static uint64_t words_at(const struct header *h)
{
    return labels_at(h) + labels_bytes(h);
}

static bool within(uint32_t x, uint32_t least, uint32_t most)
{
    return x >= least && x <= most;
}

/* Every number in range, before any of them is used; then the sum of the parts is the file. */
static bool header_is_sound(const struct header *h, uint64_t source, uint64_t file_bytes)
{
    bool sound = h->magic == magic && h->source == source && within(h->count, 1, DATASET_IMAGES_MAX) &&
                 within(h->height, 1, DATASET_SIDE_MAX) && within(h->width, 1, DATASET_SIDE_MAX) &&
                 within(h->channels, 1, DATASET_CHANNELS_MAX) && within(h->classes, 0, DATASET_CLASSES_MAX) &&
                 h->labelled <= 1 && h->named <= 1 && (h->named == 0 || h->labelled) &&
                 within(h->problems, 0, DATASET_PROBLEMS_MAX) && h->problems <= h->problem_count &&
                 within(h->notes, 0, DATASET_NOTES_MAX) && within((uint32_t)h->words_bytes, 1, WORDS_MAX) &&
                 h->words_bytes <= WORDS_MAX;
    return sound && h->images_bytes == (uint64_t)h->count * h->height * h->width * h->channels &&
           words_at(h) + h->words_bytes == file_bytes;
}

static uint64_t checksum_of(const struct header *h, const uint8_t *file, uint64_t bytes)
{
    struct header blank = *h;
    blank.checksum = 0;
    return XXH64(file + IMAGES_AT, bytes - IMAGES_AT, XXH64(&blank, sizeof blank, 0));
}

/* The next word; NULL when the bytes end before it does. */
static const char *next_word(const char **at, const char *end)
{
    const char *word = *at, *stop = memchr(word, '\0', (size_t)(end - word));
    *at = stop ? stop + 1 : end;
    return stop ? word : NULL;
}

static bool take_words(const char **at, const char *end, uint32_t n, char **out)
{
    for (uint32_t i = 0; i < n; i++) {
        const char *word = next_word(at, end);
        out[i] = word ? strdup(word) : NULL;
        if (out[i] == NULL)
            return false;
    }
    return true;
}

static bool take_all_words(const struct header *h, const uint8_t *file, struct dataset *d)
{
    const char *at = (const char *)file + words_at(h), *end = at + h->words_bytes, *format = next_word(&at, end);
    d->format = format ? dataset_format_of(format) : NULL;
    if (d->format == NULL)
        return false;
    d->class_names = h->named ? calloc((size_t)h->classes + 1, sizeof *d->class_names) : NULL;
    d->problem_count = h->problem_count;
    d->note_count = h->notes;
    return (!h->named || (d->class_names && take_words(&at, end, h->classes, d->class_names))) &&
           take_words(&at, end, h->problems, d->problems) && take_words(&at, end, h->notes, d->notes) && at == end;
}

static bool take_labels(const struct header *h, const uint8_t *file, struct dataset *d)
{
    if (!h->labelled)
        return true;
    d->labels = malloc(labels_bytes(h));
    if (d->labels == NULL)
        return false;
    memcpy(d->labels, file + labels_at(h), labels_bytes(h));
    for (uint32_t i = 0; i < h->count; i++)
        if (d->labels[i] >= h->classes)
            return false;
    return true;
}

static bool take_set(const struct header *h, const uint8_t *file, struct dataset *d)
{
    d->count = h->count;
    d->height = h->height;
    d->width = h->width;
    d->channels = h->channels;
    d->classes = h->classes;
    d->holdout = h->holdout;
    d->skipped = h->skipped;
    d->sizes = h->sizes;
    return take_labels(h, file, d) && take_all_words(h, file, d);
}

/* Only what we, or root, wrote, and nobody else can change. */
static bool is_ours(const struct stat *st)
{
    return (st->st_uid == geteuid() || st->st_uid == 0) && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static bool read_open(const struct image_cache *c, int fd, struct dataset *out)
{
    struct stat st;
    struct header h;
    if (fstat(fd, &st) != 0 || !is_ours(&st) || st.st_size <= IMAGES_AT ||
        pread(fd, &h, sizeof h, 0) != (ssize_t)sizeof h || !header_is_sound(&h, c->source, (uint64_t)st.st_size) ||
        image_store_map(fd, 0, (uint64_t)st.st_size, false, out) != 0)
        return false;
    const uint8_t *file = out->map;
    out->images = (uint8_t *)out->map + IMAGES_AT;
    if (h.checksum == checksum_of(&h, file, (uint64_t)st.st_size) && take_set(&h, file, out))
        return true;
    dataset_fini(out);
    return false;
}

bool image_cache_read(const struct image_cache *c, struct dataset *out)
{
    int fd;
    struct error e;
    if (file_open(c->path, O_RDONLY, &fd, &e) != 0)
        return false;
    bool read = read_open(c, fd, out);
    close(fd);
    return read;
}

/* ---- writing ---- */

int image_cache_lock(struct image_cache *c, struct error *e)
{
    char path[sizeof c->path];
    const struct timespec pause = {.tv_nsec = LOCK_PACE_MS * 1000000L};
    int rc;
    snprintf(path, sizeof path, "%s/%016llx.lock", c->directory, (unsigned long long)c->place);
    while ((rc = file_lock(path, &c->lock, e)) == ERR_STATE)
        nanosleep(&pause, NULL);
    return rc;
}

static int write_failed(const struct image_cache *c, struct error *e)
{
    return error_set(e, ERR_IO, "%s: %s; make room, or set data.cache_directory elsewhere", c->unfinished,
                     strerror(errno ? errno : ENOSPC));
}

int image_cache_begin(struct image_cache *c, struct error *e)
{
    int rc = file_open(c->unfinished, O_RDWR | O_CREAT | O_TRUNC, &c->store.fd, e);
    c->store.path = c->unfinished;
    c->store.end = IMAGES_AT;
    if (rc == 0 && fchmod(c->store.fd, S_IRUSR | S_IWUSR) != 0) /* the images may be private, their folder not ours */
        rc = write_failed(c, e);
    return rc;
}

static bool put(int fd, const void *bytes, size_t n, uint64_t at)
{
    errno = 0;
    return n == 0 || pwrite(fd, bytes, n, (off_t)at) == (ssize_t)n;
}

static char *words_of(const struct dataset *d, uint32_t problems, size_t *size)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, size);
    if (f == NULL)
        return NULL;
    fputs(d->format, f);
    fputc('\0', f);
    for (uint32_t i = 0; d->class_names && i < d->classes; i++)
        fprintf(f, "%s%c", d->class_names[i], '\0');
    for (uint32_t i = 0; i < problems; i++)
        fprintf(f, "%s%c", d->problems[i] ? d->problems[i] : "", '\0');
    for (uint32_t i = 0; i < d->note_count; i++)
        fprintf(f, "%s%c", d->notes[i] ? d->notes[i] : "", '\0');
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

static struct header header_of(const struct image_cache *c, const struct dataset *d)
{
    struct header h;
    memset(&h, 0, sizeof h); /* the checksum takes in what lies between fields */
    h.magic = magic;
    h.source = c->source;
    h.images_bytes = c->store.end - IMAGES_AT;
    h.count = d->count;
    h.height = d->height;
    h.width = d->width;
    h.channels = d->channels;
    h.classes = d->classes;
    h.labelled = d->labels != NULL;
    h.named = d->class_names != NULL;
    h.holdout = d->holdout;
    h.skipped = d->skipped;
    h.problem_count = d->problem_count;
    h.problems = d->problem_count < DATASET_PROBLEMS_MAX ? d->problem_count : DATASET_PROBLEMS_MAX;
    h.notes = d->note_count;
    h.sizes = d->sizes;
    return h;
}

/* Everything but the header. */
static int write_rest(const struct image_cache *c, const struct dataset *d, struct header *h, struct error *e)
{
    static const uint8_t zeros[8];
    size_t words_bytes;
    char *words = words_of(d, h->problems, &words_bytes);
    if (words == NULL)
        return error_set(e, ERR_MEMORY, "%s: no memory", c->unfinished);
    h->words_bytes = words_bytes;
    bool done = put(c->store.fd, zeros, labels_at(h) - c->store.end, c->store.end) &&
                put(c->store.fd, d->labels, labels_bytes(h), labels_at(h)) &&
                put(c->store.fd, words, words_bytes, words_at(h)) &&
                ftruncate(c->store.fd, (off_t)(words_at(h) + words_bytes)) == 0;
    free(words);
    return done ? 0 : write_failed(c, e);
}

static int seal(const struct image_cache *c, struct header *h, struct error *e)
{
    uint64_t bytes = words_at(h) + h->words_bytes;
    struct dataset file = {0};
    if (image_store_map(c->store.fd, 0, bytes, false, &file) != 0)
        return error_set(e, ERR_MEMORY, "%s: cannot be mapped: %s", c->unfinished, strerror(errno));
    h->checksum = checksum_of(h, file.map, bytes);
    munmap(file.map, file.map_bytes);
    if (!put(c->store.fd, h, sizeof *h, 0) || fsync(c->store.fd) != 0 || rename(c->unfinished, c->path) != 0)
        return write_failed(c, e);
    return 0;
}

/* Those of the same place that are not this one: what they hold has changed since. */
static void remove_older(const struct image_cache *c)
{
    const char *own = strrchr(c->path, '/') + 1;
    DIR *d = opendir(c->directory);
    for (struct dirent *x; d && (x = readdir(d)) != NULL;) {
        size_t length = strlen(x->d_name);
        bool same_place = strncmp(x->d_name, own, 17) == 0 && length == strlen(own);
        if (same_place && strcmp(x->d_name, own) != 0)
            unlinkat(dirfd(d), x->d_name, 0);
    }
    if (d)
        closedir(d);
}

int image_cache_finish(struct image_cache *c, struct dataset *out, struct error *e)
{
    struct header h = header_of(c, out);
    int rc = write_rest(c, out, &h, e);
    if (rc == 0)
        rc = seal(c, &h, e);
    if (rc != 0)
        return rc;
    if (out->map)
        munmap(out->map, out->map_bytes);
    out->map = NULL;
    out->images = NULL;
    if (image_store_map(c->store.fd, IMAGES_AT, h.images_bytes, false, out) != 0)
        rc = error_set(e, ERR_MEMORY, "%s: cannot be mapped: %s", c->path, strerror(errno));
    close(c->store.fd);
    c->store.fd = -1;
    remove_older(c);
    return rc;
}
