/* Memory is taken once, for as many images as can come; images that do not come leave holes that image_sink_close
 * closes, so that the order is that of the files whichever thread was faster. */
#include "worker/data/image_sink.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "proto/provenance.h"
#include "worker/data/image_store.h"

enum { PROGRESS_EVERY = 256 }; /* images of a stream: small ones, which take less time than a look at the clock each */

int image_sink_begin(struct image_sink *sink, bool labelled, struct error *e)
{
    bool hold_out = sink->may_hold_out && labelled && sink->options->holdout > 0;
    sink->share = !hold_out ? IMAGE_SINK_ALL : sink->test ? IMAGE_SINK_HELD_OUT : IMAGE_SINK_WITHOUT_HELD_OUT;
    sink->out->holdout = hold_out ? sink->options->holdout : 0;
    if (!sink->test || !sink->may_hold_out || hold_out)
        return 0;
    if (labelled)
        return error_set(e, ERR_NOT_FOUND,
                         "%s: no test images; add them (docs/DATA.md says where), or set data.holdout "
                         "before training",
                         sink->options->path);
    return error_set(e, ERR_NOT_FOUND, "%s: no test images, and no labels by which some could be held out",
                     sink->options->path);
}

bool image_sink_trains_on(const struct image_sink *sink, uint64_t position)
{
    return sink->share == IMAGE_SINK_ALL || position % sink->options->holdout != sink->options->holdout - 1;
}

bool image_sink_keeps(const struct image_sink *sink, uint64_t position)
{
    return sink->share == IMAGE_SINK_ALL ||
           image_sink_trains_on(sink, position) == (sink->share == IMAGE_SINK_WITHOUT_HELD_OUT);
}

uint64_t image_sink_share_of(const struct image_sink *sink, uint64_t count)
{
    if (sink->share == IMAGE_SINK_ALL)
        return count;
    uint64_t held_out = count / sink->options->holdout;
    return sink->share == IMAGE_SINK_HELD_OUT ? held_out : count - held_out;
}

/* The size that all images get. */
static int choose_size(const struct image_sink *sink, const struct image_size *first, const char *where,
                       struct error *e)
{
    const struct dataset_options *o = sink->options;
    struct dataset *d = sink->out;
    d->height = o->side ? o->side : first->height;
    d->width = o->side ? o->side : first->width;
    d->channels = o->channels ? o->channels : first->channels;
    if (d->height - 1 < DATASET_SIDE_MAX && d->width - 1 < DATASET_SIDE_MAX && d->channels - 1 < DATASET_CHANNELS_MAX)
        return 0;
    return error_set(e, ERR_RANGE,
                     "%s: images of %ux%ux%u, expected sides in 1..%d and channels in 1..%d; set data.side "
                     "to resize them",
                     where, d->height, d->width, d->channels, DATASET_SIDE_MAX, DATASET_CHANNELS_MAX);
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

static int check_memory(const struct image_sink *sink, uint64_t count, uint64_t image, const char *where,
                        struct error *e)
{
    uint64_t limit = sink->options->memory_bytes;
    if (limit == 0 || count <= limit / image || sink->options->store || sink->options->on_demand)
        return 0;
    return error_set(e, ERR_RANGE,
                     "%s: %llu images of %llu bytes need %.2f GiB, data.memory allows %.2f; raise it, or set "
                     "data.side or data.limit, or data.cache = file or none",
                     where, (unsigned long long)count, (unsigned long long)image, gib(count * image), gib(limit));
}

/* Where image_sink_put puts images that it does not keep. */
static int open_survey(struct image_sink *sink)
{
    struct dataset *d = sink->out, expected = *d;
    struct image_size size = {d->height, d->width, d->channels};
    uint32_t shape[DATASET_SHAPE];
    _Static_assert((int)DATASET_SHAPE == (int)IMAGE_SURVEY_SHAPE, "a survey begins with a set's shape");
    expected.classes = sink->classes;
    dataset_shape(&expected, shape);
    int rc = image_source_new(d->count, &d->source);
    if (rc != 0)
        return rc;
    d->source->parts->size = size;
    d->source->parts->ground = sink->ground;
    for (uint32_t i = 0; i < d->count; i++)
        d->source->parts->places[i] = i;
    return image_survey_new(&size, sink->classes == UINT32_MAX ? NULL : shape, &sink->survey);
}

static int take_memory(struct image_sink *sink, uint64_t bytes)
{
    if (sink->options->on_demand)
        return open_survey(sink);
    sink->out->images = malloc(bytes);
    return sink->out->images ? 0 : ERR_MEMORY;
}

int image_sink_open(struct image_sink *sink, uint64_t kept, const struct image_size *first, bool labelled,
                    const char *where, struct error *e)
{
    struct dataset *d = sink->out;
    uint64_t limit = sink->options->limit;
    if (kept == 0)
        return error_set(e, ERR_NOT_FOUND, "%s: holds no images%s", where,
                         sink->share == IMAGE_SINK_HELD_OUT ? " to hold out; data.holdout is larger than every class"
                                                            : "");
    uint64_t count = limit > 0 && limit < kept ? limit : kept;
    if (count > DATASET_IMAGES_MAX)
        return error_set(e, ERR_RANGE, "%s: %llu images, at most %d; set data.limit", where, (unsigned long long)count,
                         DATASET_IMAGES_MAX);
    int rc = choose_size(sink, first, where, e);
    uint64_t image = (uint64_t)d->height * d->width * d->channels;
    if (rc == 0)
        rc = check_memory(sink, count, image, where, e);
    if (rc != 0)
        return rc;
    d->count = (uint32_t)count;
    d->labels = labelled ? calloc(count, sizeof *d->labels) : NULL;
    sink->loaded = calloc(count, 1);
    bool room = sink->loaded && (d->labels || !labelled);
    if (room && sink->options->store)
        return image_store_take(sink->options->store, count * image, d, e);
    if (room && take_memory(sink, count * image) == 0)
        return 0;
    return error_set(e, ERR_MEMORY, "%s: no memory for %llu images of %llu bytes, %.2f GiB%s", where,
                     (unsigned long long)count, (unsigned long long)image, gib(count * image),
                     sink->options->on_demand ? "" : "; data.cache = file or none needs less");
}

/* What is kept of an image that is not. */
static int survey_image(struct image_sink *sink, uint32_t i, const uint8_t *pixels, const struct image_size *size)
{
    struct image_part *part = sink->out->source->parts;
    uint8_t *image = malloc(image_bytes(&part->size));
    int rc = image ? image_fit(pixels, size, image, &part->size, sink->ground) : ERR_MEMORY;
    if (rc != 0) {
        free(image);
        return rc;
    }
    part->hashes[i] = image_source_hash(image, &part->size);
    image_survey_take(sink->survey, i, image);
    return 0;
}

int image_sink_put(struct image_sink *sink, uint32_t i, const uint8_t *pixels, const struct image_size *size,
                   uint16_t label)
{
    struct dataset *d = sink->out;
    struct image_size to = {d->height, d->width, d->channels};
    ASSERT(i < d->count);
    int rc = sink->survey ? survey_image(sink, i, pixels, size)
                          : image_fit(pixels, size, d->images + i * image_bytes(&to), &to, sink->ground);
    if (rc == 0 && d->labels)
        d->labels[i] = label;
    sink->loaded[i] = rc == 0;
    return rc;
}

void image_sink_miss(struct image_sink *sink, uint32_t i)
{
    sink->loaded[i] = 0;
    if (sink->survey)
        image_survey_miss(sink->survey);
}

void image_sink_lend(struct image_sink *sink, struct image_access *access)
{
    struct image_source *source = sink->out->source;
    ASSERT(source->parts->access.state == NULL);
    source->parts->access = *access;
    *access = (struct image_access){0};
}

void image_sink_saw(struct image_sink *sink, const struct image_size *size)
{
    struct dataset_sizes *s = &sink->out->sizes;
    s->height_min = s->height_min && s->height_min < size->height ? s->height_min : size->height;
    s->width_min = s->width_min && s->width_min < size->width ? s->width_min : size->width;
    s->height_max = s->height_max > size->height ? s->height_max : size->height;
    s->width_max = s->width_max > size->width ? s->width_max : size->width;
}

void image_sink_progress(const struct image_sink *sink, uint64_t done)
{
    const struct dataset_options *o = sink->options;
    if (o->progress)
        o->progress(o->progress_context, done, sink->out->count);
}

/* Reads image `position`; keeps it when it belongs to the share. */
static int take_next(struct image_sink *sink, const struct image_sink_stream *s, uint64_t position, uint8_t *pixels,
                     uint32_t *kept, struct error *e)
{
    int64_t label = 0;
    int rc = s->next(s->arg, pixels, &label, e);
    if (rc != 0 || !image_sink_keeps(sink, position))
        return rc;
    if (label < 0 || label >= DATASET_CLASSES_MAX)
        return error_set(e, ERR_FORMAT, "%s: label %lld of image %llu, expected 0..%d", s->where, (long long)label,
                         (unsigned long long)position, DATASET_CLASSES_MAX - 1);
    if (sink->survey)
        sink->out->source->parts->places[*kept] = (uint32_t)position;
    rc = image_sink_put(sink, (*kept)++, pixels, &s->size, (uint16_t)label);
    return rc == 0 ? 0 : error_set(e, rc, "%s: no memory to resize an image", s->where);
}

bool image_sink_wants_votes(const struct image_sink *sink, uint32_t channels)
{
    uint32_t to = sink->options->channels;
    return sink->options->background == BACKGROUND_AUTO && (channels == 2 || channels == 4) && (to == 1 || to == 3);
}

void image_sink_judge(struct image_sink *sink, const struct ground *votes)
{
    sink->ground = ground_choice(votes);
    if (votes->images == 0 || sink->test)
        return;
    image_sink_note(
        sink, "transparent images are all composited on %s (judged by %u of them); data.background changes it",
        sink->ground == GROUND_WHITE ? "white: on black, most of what is opaque in them would vanish" : "black",
        votes->images);
}

int image_sink_judge_stream(struct image_sink *sink, const struct image_sink_stream *s, struct error *e)
{
    struct ground votes = {0};
    uint64_t n = s->count < GROUND_IMAGES_MAX ? s->count : GROUND_IMAGES_MAX;
    int64_t label;
    uint8_t *pixels = malloc(image_bytes(&s->size));
    int rc = pixels ? 0 : error_set(e, ERR_MEMORY, "%s: no memory for an image", s->where);
    for (uint64_t i = 0; rc == 0 && i < n; i++) {
        rc = s->next(s->arg, pixels, &label, e);
        if (rc == 0)
            ground_vote(&votes, pixels, &s->size);
    }
    free(pixels);
    if (rc == 0)
        image_sink_judge(sink, &votes);
    return rc;
}

int image_sink_from_stream(struct image_sink *sink, const struct image_sink_stream *s, bool *whole, struct error *e)
{
    uint32_t kept = 0;
    uint64_t position = 0;
    int rc = image_sink_begin(sink, s->labelled, e);
    sink->classes = UINT32_MAX;
    if (rc == 0)
        rc = image_sink_open(sink, image_sink_share_of(sink, s->count), &s->size, s->labelled, s->where, e);
    if (rc != 0)
        return rc;
    image_sink_saw(sink, &s->size);
    uint8_t *pixels = malloc(image_bytes(&s->size));
    if (!pixels)
        return error_set(e, ERR_MEMORY, "%s: no memory for an image", s->where);
    for (; rc == 0 && kept < sink->out->count; position++) {
        if (position % PROGRESS_EVERY == 0)
            image_sink_progress(sink, kept);
        rc = take_next(sink, s, position, pixels, &kept, e);
    }
    for (; rc == 0 && sink->options->limit == 0 && position < s->count;
         position++) /* what only held-out images follow */
        rc = take_next(sink, s, position, pixels, &kept, e);
    *whole = position == s->count;
    if (rc == 0)
        image_sink_progress(sink, kept);
    free(pixels);
    return rc;
}

/* Image `from` becomes image `to`. */
static void move_image(struct dataset *d, uint32_t to, uint32_t from)
{
    size_t image = dataset_image_bytes(d);
    if (d->images)
        memcpy(d->images + to * image, d->images + from * image, image);
    if (d->source) {
        d->source->parts->places[to] = d->source->parts->places[from];
        d->source->parts->hashes[to] = d->source->parts->hashes[from];
    }
    if (d->labels)
        d->labels[to] = d->labels[from];
    if (d->names)
        d->names[to] = d->names[from];
}

static void close_holes(struct image_sink *sink)
{
    struct dataset *d = sink->out;
    uint32_t kept = 0;
    for (uint32_t i = 0; sink->loaded && i < d->count; i++) {
        if (!sink->loaded[i]) {
            if (d->names)
                free(d->names[i]);
            continue;
        }
        if (kept != i)
            move_image(d, kept, i);
        if (sink->survey && i == image_survey_contrast(sink->survey)->first)
            sink->contrast.first = kept;
        kept++;
    }
    d->skipped += d->count - kept;
    d->count = kept;
}

/* Of a set that is not kept, while it is known: see dataset_fingerprint. */
static void take_fingerprint(struct image_sink *sink)
{
    struct dataset *d = sink->out;
    uint32_t shape[DATASET_SHAPE];
    uint64_t hash;
    dataset_shape(d, shape);
    d->source->parts->count = d->count;
    if (image_survey_hash(sink->survey, shape, d->labels, d->labels ? d->count * sizeof *d->labels : 0, &hash))
        d->fingerprint = fingerprint_of(hash);
}

static void look_at_contrast(struct image_sink *sink)
{
    const struct dataset *d = sink->out;
    size_t image = dataset_image_bytes(d);
    uint32_t first = sink->contrast.first;
    contrast_init(&sink->contrast);
    if (sink->survey) {
        sink->contrast = *image_survey_contrast(sink->survey);
        sink->contrast.first = first; /* as images are numbered without the holes */
    } else
        for (uint32_t i = 0; d->images && i < d->count; i++)
            contrast_add(&sink->contrast, i, d->images + i * image, image, d->channels);
}

void image_sink_close(struct image_sink *sink)
{
    struct dataset *d = sink->out;
    close_holes(sink);
    free(sink->loaded);
    sink->loaded = NULL;
    for (uint32_t i = 0; d->labels && !d->class_names && i < d->count; i++)
        if (d->labels[i] >= d->classes)
            d->classes = d->labels[i] + 1u;
    if (sink->survey)
        take_fingerprint(sink);
    look_at_contrast(sink);
    image_survey_free(&sink->survey);
}

void image_sink_leave_out(struct image_sink *sink, uint64_t images)
{
    uint32_t *skipped = &sink->out->skipped;
    if (!sink->quiet)
        *skipped = images < UINT32_MAX - *skipped ? *skipped + (uint32_t)images : UINT32_MAX;
}

/* One line, cut at the size of an error's text; NULL when out of memory. */
static char *one_line(const char *format, va_list args)
{
    size_t size = sizeof((struct error *)0)->text;
    char *text = malloc(size);
    if (!text)
        return NULL;
    vsnprintf(text, size, format, args);
    for (char *p = text; *p; p++) /* names of files may hold what a terminal obeys */
        *p = (unsigned char)*p < ' ' || *p == 127 ? '?' : *p;
    return text;
}

void image_sink_note(struct image_sink *sink, const char *format, ...)
{
    struct dataset *d = sink->out;
    va_list args;
    if (sink->quiet || d->note_count == DATASET_NOTES_MAX)
        return;
    va_start(args, format);
    d->notes[d->note_count] = one_line(format, args);
    va_end(args);
    d->note_count += d->notes[d->note_count] != NULL;
}

void image_sink_problem(struct image_sink *sink, const char *format, ...)
{
    struct dataset *d = sink->out;
    va_list args;
    if (sink->quiet || d->problem_count++ >= DATASET_PROBLEMS_MAX)
        return;
    va_start(args, format);
    d->problems[d->problem_count - 1] = one_line(format, args); /* NULL: counted all the same */
    va_end(args);
}
