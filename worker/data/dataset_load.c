/* Loads each path of a list as if it stood alone, and puts the sets together in their order. Classes are merged by
 * their names and numbered in the order of these, over all paths, whichever split is loaded and wherever data.limit
 * cuts: so that both splits have the same numbers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <string.h>
#include <xxhash.h>
#include "common/path_list.h"
#include "proto/provenance.h"
#include "worker/data/class_index.h"
#include "worker/data/dataset.h"
#include "worker/data/dataset_one.h"
#include "worker/data/image_cache.h"
#include "worker/data/image_feed.h"
#include "worker/data/image_source.h"
#include "worker/data/image_store.h"

/* A set that grows. */
struct joined {
    struct dataset *out;
    struct image_store *store; /* NULL: images are in memory */
    bool any;                  /* some path is in it */
    bool unlabelled;           /* some path has no labels, so the set has none */
};

static int no_memory(const char *path, struct error *e)
{
    return error_set(e, ERR_MEMORY, "%s: no memory to add its images to those of other paths", path);
}

/* ---- classes ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint16_t place_of(char *const *names, uint32_t count, const char *name)
{
    char **at = bsearch(&name, names, count, sizeof *names, compare_names);
    ASSERT(at != NULL);
    return (uint16_t)(at - names);
}

static void renumber(struct dataset *d, const uint16_t *number)
{
    for (uint32_t i = 0; d->labels && i < d->count; i++)
        d->labels[i] = number[d->labels[i]];
}

/* names: those of out, and those of part that out does not have, sorted. meant[c]: the name in it for part's class
 * c. */
static int merge_names(const struct dataset *out, const struct dataset *part, char **names, const char **meant,
                       uint32_t *count)
{
    struct class_index index;
    uint32_t n = out->classes;
    int rc = class_index_init(&index, out->class_names, out->classes);
    if (rc != 0)
        return rc;
    memcpy(names, out->class_names, n * sizeof *names);
    for (uint32_t c = 0; c < part->classes; c++) {
        uint32_t known = class_index_find(&index, part->class_names[c]);
        meant[c] = known != UINT32_MAX ? out->class_names[known] : part->class_names[c];
        if (known == UINT32_MAX)
            names[n++] = part->class_names[c];
    }
    class_index_fini(&index);
    qsort(names, n, sizeof *names, compare_names);
    *count = n;
    return 0;
}

/* Hands part's new names over to out, frees the others, and numbers the labels of both anew. */
static void adopt_names(struct dataset *out, struct dataset *part, char **names, const char **meant, uint32_t count)
{
    uint16_t number[DATASET_CLASSES_MAX];
    for (uint32_t c = 0; c < out->classes; c++)
        number[c] = place_of(names, count, out->class_names[c]);
    renumber(out, number);
    for (uint32_t c = 0; c < part->classes; c++) {
        number[c] = place_of(names, count, meant[c]);
        if (meant[c] != part->class_names[c])
            free(part->class_names[c]);
    }
    renumber(part, number);
    free(out->class_names);
    free(part->class_names);
    part->class_names = NULL;
    out->class_names = names;
    out->classes = count;
}

static int merge_classes(struct dataset *out, struct dataset *part, const char *path, struct error *e)
{
    uint32_t count = 0, most = out->classes + part->classes;
    char **names = calloc((size_t)most + 1, sizeof *names);
    const char **meant = calloc((size_t)part->classes + 1, sizeof *meant);
    int rc = names && meant ? merge_names(out, part, names, meant, &count) : ERR_MEMORY;
    if (rc != 0)
        error_set(e, rc, "%s: no memory for the names of its classes", path);
    else if (count > DATASET_CLASSES_MAX)
        rc = error_set(e, ERR_RANGE, "%s: with it there are %u classes, at most %d", path, count, DATASET_CLASSES_MAX);
    else
        adopt_names(out, part, names, meant, count);
    if (rc != 0)
        free(names);
    free(meant);
    return rc;
}

static void drop_labels(struct dataset *d)
{
    for (char **name = d->class_names; name && *name; name++)
        free(*name);
    free(d->class_names);
    free(d->labels);
    d->class_names = NULL;
    d->labels = NULL;
    d->classes = 0;
}

static void note_unlabelled(struct dataset *out, const char *path)
{
    char *text;
    if (out->note_count < DATASET_NOTES_MAX &&
        asprintf(&text, "%s has no labels, so that the whole set has none; `decant eval --data` takes one that has",
                 path) >= 0)
        out->notes[out->note_count++] = text;
}

/* Part's labels mean what out's do, or neither has any. */
static int agree_on_classes(struct joined *j, struct dataset *part, bool labelled, const char *path, struct error *e)
{
    struct dataset *out = j->out;
    if (!labelled || j->unlabelled) {
        if (!j->unlabelled && !labelled)
            note_unlabelled(out, path);
        j->unlabelled = true;
        drop_labels(out);
        drop_labels(part);
        return 0;
    }
    if (j->any && (out->class_names != NULL) != (part->class_names != NULL))
        return error_set(e, ERR_FORMAT,
                         "%s: %s, unlike the paths before it in data.path, so that nothing tells which classes are the "
                         "same; use one kind of set, or leave one out",
                         path, part->class_names ? "its classes have names" : "its classes have numbers and no names");
    if (part->class_names && out->class_names)
        return merge_classes(out, part, path, e);
    out->classes = part->classes > out->classes ? part->classes : out->classes;
    if (part->class_names) {
        out->class_names = part->class_names;
        part->class_names = NULL;
    }
    return 0;
}

/* ---- images and what was said about them ---- */

static uint32_t smaller_but_zero(uint32_t a, uint32_t b)
{
    return a == 0 || (b > 0 && b < a) ? b : a;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static void merge_sizes(struct dataset_sizes *out, const struct dataset_sizes *part)
{
    out->height_min = smaller_but_zero(out->height_min, part->height_min);
    out->width_min = smaller_but_zero(out->width_min, part->width_min);
    out->height_max = larger(out->height_max, part->height_max);
    out->width_max = larger(out->width_max, part->width_max);
}

static void merge_words(struct dataset *out, struct dataset *part)
{
    uint32_t kept = part->problem_count < DATASET_PROBLEMS_MAX ? part->problem_count : DATASET_PROBLEMS_MAX;
    for (uint32_t i = 0, to = out->problem_count; i < kept && to < DATASET_PROBLEMS_MAX; i++, to++) {
        out->problems[to] = part->problems[i];
        part->problems[i] = NULL;
    }
    out->problem_count += part->problem_count;
    for (uint32_t i = 0; i < part->note_count && out->note_count < DATASET_NOTES_MAX; i++) {
        out->notes[out->note_count++] = part->notes[i];
        part->notes[i] = NULL;
    }
    out->skipped = part->skipped < UINT32_MAX - out->skipped ? out->skipped + part->skipped : UINT32_MAX;
}

static int append_pixels(struct dataset *out, struct dataset *part, struct image_store *store)
{
    size_t image = dataset_image_bytes(part);
    if (part->source)
        return image_source_join(&out->source, &part->source);
    if (store) { /* they are where they belong already */
        image_store_keep(store, part->count * image);
        return 0;
    }
    uint8_t *images = realloc(out->images, ((size_t)out->count + part->count) * image);
    if (images == NULL)
        return ERR_MEMORY;
    memcpy(images + out->count * image, part->images, part->count * image);
    out->images = images;
    return 0;
}

static int append_images(struct dataset *out, struct dataset *part, struct image_store *store, const char *path,
                         struct error *e)
{
    size_t total = (size_t)out->count + part->count;
    if (part->count == 0)
        return 0;
    if (total > DATASET_IMAGES_MAX)
        return error_set(e, ERR_RANGE, "%s: with it there are %zu images, at most %d; set data.limit", path, total,
                         DATASET_IMAGES_MAX);
    uint16_t *labels = part->labels ? realloc(out->labels, total * sizeof *labels) : NULL;
    out->labels = labels ? labels : out->labels;
    if ((part->labels && !labels) || append_pixels(out, part, store) != 0)
        return no_memory(path, e);
    if (labels)
        memcpy(labels + out->count, part->labels, part->count * sizeof *labels);
    out->height = part->height;
    out->width = part->width;
    out->channels = part->channels;
    out->count = (uint32_t)total;
    return 0;
}

static int join(struct joined *j, struct dataset *part, bool labelled, const char *path, struct error *e)
{
    struct dataset *out = j->out;
    int rc = agree_on_classes(j, part, labelled, path, e);
    if (rc == 0)
        rc = append_images(out, part, j->store, path, e);
    if (rc != 0)
        return rc;
    merge_sizes(&out->sizes, &part->sizes);
    merge_words(out, part);
    out->format = !j->any || strcmp(out->format, part->format) == 0 ? part->format : DATASET_FORMAT_SEVERAL;
    out->holdout = larger(out->holdout, part->holdout);
    j->any = true;
    return 0;
}

/* ---- paths ---- */

/* A path of which nothing is wanted still has classes, which count. */
static int load_classes(const struct dataset_options *o, struct dataset *part, bool *labelled, struct error *e)
{
    struct dataset_options one = *o;
    one.limit = 1;
    one.progress = NULL;
    int rc = dataset_load_one(&one, DATASET_TRAIN, part, e);
    *labelled = rc == 0 && part->labels != NULL;
    part->count = part->skipped = part->holdout = part->problem_count = part->note_count = 0;
    part->sizes = (struct dataset_sizes){0};
    return rc;
}

static int load_part(const struct dataset_options *o, enum dataset_split split, bool wanted, struct dataset *part,
                     bool *labelled, struct error *e)
{
    if (!wanted)
        return load_classes(o, part, labelled, e);
    int rc = dataset_load_one(o, split, part, e);
    *labelled = rc == 0 && part->labels != NULL;
    return rc == ERR_NOT_FOUND && split == DATASET_TEST ? load_classes(o, part, labelled, e) : rc;
}

/* What the path may still take of the memory and of the number of images. */
static struct dataset_options share_of(const struct dataset_options *o, const struct dataset *out, const char *path)
{
    struct dataset_options one = *o;
    uint64_t used = (uint64_t)out->count * out->height * out->width * out->channels;
    one.path = path;
    one.limit = o->limit > 0 ? o->limit - out->count : 0;
    one.memory_bytes = o->memory_bytes == 0 ? 0 : o->memory_bytes > used ? o->memory_bytes - used : 1;
    return one;
}

/* With several sets an image is named with the path of its own. */
static int take_names(struct dataset *out, struct dataset *part, const char *path)
{
    uint32_t before = out->count - part->count;
    char **names = realloc(out->names, ((size_t)out->count + 1) * sizeof *names);
    if (names == NULL)
        return ERR_MEMORY;
    out->names = names;
    memset(names + before, 0, part->count * sizeof *names);
    for (uint32_t i = 0; i < part->count; i++)
        if ((part->names ? asprintf(&names[before + i], "%s/%s", path, part->names[i])
                         : asprintf(&names[before + i], "%s#%" PRIu32, path, i)) < 0) {
            names[before + i] = NULL;
            return ERR_MEMORY;
        }
    return 0;
}

static int load_next(const struct dataset_options *o, enum dataset_split split, const char *path, struct joined *j,
                     struct error *e)
{
    struct dataset part = {0};
    bool labelled, wanted = o->limit == 0 || j->out->count < o->limit;
    struct dataset_options one = share_of(o, j->out, path);
    int rc = load_part(&one, split, wanted, &part, &labelled, e);
    if (rc == 0)
        rc = join(j, &part, labelled, path, e);
    if (rc == 0 && o->names && take_names(j->out, &part, path) != 0)
        rc = no_memory(path, e);
    dataset_fini(&part);
    return rc;
}

static int load_several(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
{
    char path[DATASET_PATH_MAX];
    struct joined j = {.out = out, .store = o->store};
    int rc = 0;
    (void)path_list_next(o->path, path, sizeof path);
    if (access(path, F_OK) != 0 && access(o->path, F_OK) == 0)
        return error_set(e, ERR_CONFIG,
                         "data.path = %.400s: a colon stands between two paths; in a name write it \\:", o->path);
    if (o->side == 0 || o->channels == 0)
        return error_set(e, ERR_CONFIG, "data.path names several sets, whose images may differ in size: set %s",
                         o->side == 0 ? "data.side" : "data.channels");
    for (const char *rest = o->path; rc == 0 && rest != NULL;) {
        rest = path_list_next(rest, path, sizeof path);
        rc = load_next(o, split, path, &j, e);
    }
    if (rc == 0 && out->count == 0)
        rc = error_set(e, ERR_NOT_FOUND, "data.path: none of its sets has test images");
    return rc;
}

/* One path, whose set is the whole. */
static int load_single(const struct dataset_options *o, const char *path, enum dataset_split split, struct dataset *out,
                       struct error *e)
{
    struct dataset_options one = *o;
    one.path = path;
    int rc = dataset_load_one(&one, split, out, e);
    if (rc == 0 && o->store)
        image_store_keep(o->store, (uint64_t)out->count * out->height * out->width * out->channels);
    return rc;
}

static int decode(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
{
    char path[DATASET_PATH_MAX];
    if (path_list_next(o->path, path, sizeof path) == NULL)
        return load_single(o, path, split, out, e);
    int rc = load_several(o, split, out, e);
    if (rc != 0)
        dataset_fini(out);
    return rc;
}

static int decode_into(struct image_cache *cache, const struct dataset_options *o, enum dataset_split split,
                       struct dataset *out, struct error *e)
{
    struct dataset_options into = *o;
    into.store = &cache->store;
    int rc = image_cache_begin(cache, e);
    rc = rc ? rc : decode(&into, split, out, e);
    return rc ? rc : image_cache_finish(cache, out, e);
}

/* From the cache, or into it. Another process that is at it is waited for. */
static int load_cached(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
{
    struct image_cache cache;
    int rc = image_cache_open(&cache, o, split, e);
    if (rc == 0 && !image_cache_read(&cache, out)) {
        rc = image_cache_lock(&cache, e);
        if (rc == 0 && !image_cache_read(&cache, out))
            rc = decode_into(&cache, o, split, out, e);
    }
    image_cache_close(&cache);
    if (rc != 0)
        dataset_fini(out);
    return rc;
}

/* ---- sets that stay in their files ---- */

enum { HASH_BATCH = 64, HASH_BATCHES = 4, HASH_THREADS = 4 };

/* The next images of the set in their order, batch by batch, while threads read those that follow. */
static int hash_batches(struct image_feed *feed, const struct dataset *d, XXH64_state_t *state, struct error *e)
{
    const uint8_t *pixels;
    uint32_t images[HASH_BATCH];
    uint64_t batches = ((uint64_t)d->count + HASH_BATCH - 1) / HASH_BATCH;
    for (uint64_t batch = 0, wanted = 0; batch < batches; batch++) {
        for (; wanted < batches && wanted < batch + HASH_BATCHES; wanted++) {
            for (uint32_t i = 0; i < HASH_BATCH; i++) /* the last is filled up with the last image */
                images[i] = (uint32_t)(wanted * HASH_BATCH + i < d->count ? wanted * HASH_BATCH + i : d->count - 1);
            image_feed_want(feed, wanted, images);
        }
        int rc = image_feed_take(feed, batch, NULL, &pixels, e);
        if (rc != 0)
            return rc;
        uint64_t rest = d->count - batch * HASH_BATCH;
        XXH64_update(state, pixels, (size_t)(rest < HASH_BATCH ? rest : HASH_BATCH) * dataset_image_bytes(d));
        image_feed_release(feed, batch);
    }
    return 0;
}

/* A set whose fingerprint was not known in advance is read once more: one of several paths, one with damaged files, or
 * one in whose files the images lie as they are. */
static int hash_again(struct dataset *d, struct error *e)
{
    uint32_t shape[DATASET_SHAPE];
    struct image_feed *feed;
    const struct image_feed_options o = {.source = d->source,
                                         .image_bytes = dataset_image_bytes(d),
                                         .size = HASH_BATCH,
                                         .batches = HASH_BATCHES,
                                         .threads = HASH_THREADS};
    XXH64_state_t *state = XXH64_createState();
    int rc = image_feed_new(&o, &feed, e);
    if (rc == 0 && state == NULL)
        rc = error_set(e, ERR_MEMORY, "no memory");
    if (rc == 0) {
        dataset_shape(d, shape);
        XXH64_reset(state, 0);
        XXH64_update(state, shape, sizeof shape);
        rc = hash_batches(feed, d, state, e);
    }
    if (rc == 0 && d->labels)
        XXH64_update(state, d->labels, d->count * sizeof *d->labels);
    if (rc == 0)
        d->fingerprint = fingerprint_of(XXH64_digest(state));
    XXH64_freeState(state);
    image_feed_free(&feed);
    return rc;
}

static int load_on_demand(const struct dataset_options *o, enum dataset_split split, struct dataset *out,
                          struct error *e)
{
    int rc = decode(o, split, out, e);
    if (rc == 0 && out->fingerprint == 0)
        rc = hash_again(out, e);
    if (rc != 0)
        dataset_fini(out);
    return rc;
}

int dataset_load(const struct dataset_options *o, enum dataset_split split, struct dataset *out, struct error *e)
{
    struct error local = {0};
    if (e == NULL)
        e = &local;
    memset(out, 0, sizeof *out);
    if (o->on_demand)
        return load_on_demand(o, split, out, e);
    /* The cache keeps no names. */
    return o->cached && !o->names ? load_cached(o, split, out, e) : decode(o, split, out, e);
}
