/* Files are decoded by a few threads, each into its own place, so that only their order in the list matters. */
#include "worker/data/image_load.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "worker/data/image_file.h"
#include "worker/data/limits.h"

struct decoding {
    const struct image_list *list;
    struct image_sink *sink;
    uint32_t min_side; /* of the larger set: leaves our filter its share of the work */
    atomic_uint next;  /* the next file that nobody has taken */
    struct decoded {
        struct image_size size; /* in the file; zero when it could not be read */
        char *cause;            /* why it could not */
    } * files;                  /* (count) */
};

/* ---- decoding ---- */

static int decode_file(const struct image_list *l, const struct image_entry *x, uint32_t min_side, struct image *out,
                       struct error *e)
{
    struct buf *b = NULL;
    *out = (struct image){0};
    int rc = image_entry_read(l, x, &b, e);
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
    if (rc != 0) {
        d->files[i].cause = strdup(e.text);
        image_sink_miss(d->sink, i);
    } else
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

/* Where the images are, as seen from the path that is loaded: what a split's folder is called is part of it. */
static int keep_names(const struct image_list *l, struct image_sink *sink)
{
    const char *path = sink->options->path, *below = l->root + strlen(path);
    struct dataset *d = sink->out;
    if (!sink->options->names)
        return 0;
    d->names = calloc(d->count, sizeof *d->names);
    below += strspn(below, "/");
    for (uint32_t i = 0; d->names && i < d->count; i++)
        if (asprintf(&d->names[i], "%s%s%s", below, *below ? "/" : "", l->entries[i].name) < 0) {
            d->names[i] = NULL;
            return ERR_MEMORY;
        }
    return d->names ? 0 : ERR_MEMORY;
}

static uint32_t min_side_of(const struct dataset *set)
{
    return 2 * (set->height > set->width ? set->height : set->width);
}

static int load_files(const struct image_list *l, struct image_sink *sink, struct error *e)
{
    const struct dataset *set = sink->out;
    struct decoding d = {.list = l, .sink = sink};
    d.min_side = min_side_of(set);
    d.files = calloc(set->count, sizeof *d.files);
    if (!d.files || keep_names(l, sink) != 0) {
        free(d.files);
        return error_set(e, ERR_MEMORY, "%s: no memory to load %u images", l->root, set->count);
    }
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

/* ---- reading again ---- */

struct listed {
    struct image_list list; /* the place of an image is that in the list */
    uint32_t min_side;
};

static int listed_read(void *state, uint32_t place, struct image *out, struct error *e)
{
    const struct listed *l = state;
    return decode_file(&l->list, &l->list.entries[place], l->min_side, out, e);
}

static void listed_name(const void *state, uint32_t place, char out[IMAGE_SOURCE_NAME_MAX])
{
    const struct listed *l = state;
    snprintf(out, IMAGE_SOURCE_NAME_MAX, "%.200s/%.190s", l->list.root, l->list.entries[place].name);
}

static void listed_free(void *state)
{
    struct listed *l = state;
    image_list_fini(&l->list);
    free(l);
}

/* The list becomes the set's. */
static int lend_list(struct image_list *list, struct image_sink *sink, struct error *e)
{
    struct image_access access = {malloc(sizeof(struct listed)), listed_read, listed_name, listed_free};
    struct listed *l = access.state;
    if (l == NULL)
        return error_set(e, ERR_MEMORY, "%s: no memory to read its images again", list->root);
    *l = (struct listed){*list, min_side_of(sink->out)};
    *list = (struct image_list){0};
    image_sink_lend(sink, &access);
    return 0;
}

/* ---- the ground ---- */

void image_load_judge(const struct image_list *train, struct image_sink *sink)
{
    struct ground votes = {0};
    uint8_t start[GROUND_PEEK_BYTES];
    struct image image;
    size_t decoded = 0;
    if (sink->options->background != BACKGROUND_AUTO)
        return;
    for (size_t i = 0; i < train->count && i < GROUND_FILES_MAX && decoded < GROUND_IMAGES_MAX; i++) {
        const struct image_entry *x = &train->entries[i];
        size_t size = image_entry_peek(train, x, start, sizeof start);
        if (!ground_may_matter(start, size) || decode_file(train, x, 0, &image, NULL) != 0)
            continue;
        decoded++;
        ground_vote(&votes, image.pixels, &image.size);
        image_fini(&image);
    }
    image_sink_judge(sink, &votes);
}

/* ---- the lists ---- */

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

/* Of labels that are numbers. */
static uint32_t highest_class(const struct image_list *l, uint64_t count)
{
    uint32_t classes = 0;
    for (size_t i = 0; i < count; i++)
        classes = l->entries[i].class >= classes ? l->entries[i].class + 1 : classes;
    return classes;
}

int image_load(struct image_list *train, struct image_list *wanted, struct image_sink *sink, struct error *e)
{
    bool named = train->class_count > 0 && wanted->class_count > 0;
    bool labelled = named || (train->numbered && wanted->numbered);
    struct image_size first;
    int rc = image_sink_begin(sink, labelled, e);
    if (rc == 0)
        rc = first_size(train, sink, &first, e);
    if (rc == 0 && wanted != train && named &&
        image_list_renumber(wanted, train->classes, train->class_count, sink) != 0)
        rc = error_set(e, ERR_MEMORY, "%s: no memory for the classes", wanted->root);
    if (rc != 0)
        return rc;
    image_list_filter(wanted, is_wanted, sink);
    uint32_t limit = sink->options->limit;
    sink->classes = named      ? train->class_count
                    : labelled ? highest_class(wanted, limit > 0 && limit < wanted->count ? limit : wanted->count)
                               : 0;
    rc = image_sink_open(sink, wanted->count, &first, labelled, wanted->root, e);
    if (rc == 0)
        rc = load_files(wanted, sink, e);
    if (rc == 0 && named)
        hand_over_classes(train, sink->out);
    return rc == 0 && sink->options->on_demand ? lend_list(wanted, sink, e) : rc;
}
