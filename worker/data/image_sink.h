/* Where readers put images: decides which images of a split are kept (hold-out, limit), checks sizes and the memory
 * budget before anything is allocated, and brings each image to the size and channels of the set.
 *
 * A reader calls image_sink_open once, then image_sink_put for each image 0..kept-1, in order or (from threads) in
 * any order, then image_sink_close with what came of them. */
#ifndef DECANT_WORKER_DATA_IMAGE_SINK_H
#define DECANT_WORKER_DATA_IMAGE_SINK_H

#include "worker/data/dataset.h"
#include "worker/data/contrast.h"
#include "worker/data/ground.h"
#include "worker/data/image_source.h"
#include "worker/data/image_survey.h"

enum image_sink_share { IMAGE_SINK_ALL, IMAGE_SINK_WITHOUT_HELD_OUT, IMAGE_SINK_HELD_OUT };

struct image_sink {
    const struct dataset_options *options;
    struct dataset *out;
    bool may_hold_out; /* the path has no test images of its own */
    bool test;         /* the test split is wanted */
    bool quiet;        /* problems are not noted: the same files were looked at before */
    enum image_sink_share share;
    uint8_t ground; /* what transparency is composited on; image_sink_judge decides it when the options leave it open */
    uint8_t *loaded; /* (count) whether image i came in */
    uint32_t
        classes; /* that the set will have, and so its fingerprint; UINT32_MAX: that is not known before all are read */
    struct image_survey *survey; /* of images that are not kept; NULL when they are */
    struct contrast contrast;    /* of all images; from image_sink_close on */
};

/* Call before the functions below: only labelled images are held out, since nothing else needs test images.
 * ERR_NOT_FOUND when the test split was asked for and there is none. */
int image_sink_begin(struct image_sink *sink, bool labelled, struct error *e);
/* Whether the image at `position` of its file (of its class, in class folders) belongs to what is being loaded. */
bool image_sink_keeps(const struct image_sink *sink, uint64_t position);
/* Whether training would take it. */
bool image_sink_trains_on(const struct image_sink *sink, uint64_t position);
/* How many of the positions 0..count-1 do, before data.limit. */
uint64_t image_sink_share_of(const struct image_sink *sink, uint64_t count);

/* Whether the ground is still to be decided for training images of that many channels. */
bool image_sink_wants_votes(const struct image_sink *sink, uint32_t channels);
/* Decides the ground by the training images' votes, whichever split is loaded, so that both splits have the same. */
void image_sink_judge(struct image_sink *sink, const struct ground *votes);

/* Takes the memory for min(kept, limit) images. first: the size of the first training image, before resizing. `where`
 * is named in errors. ERR_NOT_FOUND: kept is 0. */
int image_sink_open(struct image_sink *sink, uint64_t kept, const struct image_size *first, bool labelled,
                    const char *where, struct error *e);
/* Image i < out->count, from pixels of any size. Thread-safe for different i. ERR_MEMORY. */
int image_sink_put(struct image_sink *sink, uint32_t i, const uint8_t *pixels, const struct image_size *size,
                   uint16_t label);
/* Image i will not come. Thread-safe. */
void image_sink_miss(struct image_sink *sink, uint32_t i);
/* With options->on_demand the set's images are read again by this, by their places: the i-th that was put is at place
 * i, or the position in its stream. Taken over. After image_sink_open. */
void image_sink_lend(struct image_sink *sink, struct image_access *access);
/* Tells how far the load is, of out->count images. From the thread that called the reader. */
void image_sink_progress(const struct image_sink *sink, uint64_t done);
/* Notes the size of a file's image before it was resized. Not thread-safe. */
void image_sink_saw(struct image_sink *sink, const struct image_size *size);

/* Begins the message about a file, %s, that cannot be read from its middle; what to do instead ends it. */
#define IMAGE_SINK_COMPRESSED                                                                                          \
    "%.300s: compressed, so that data.cache = none cannot find an image in it; set data.cache = file, or "

/* A file of images of one size, which come one after the other. */
struct image_sink_stream {
    const char *where; /* named in errors */
    uint64_t count;
    struct image_size size;
    bool labelled;
    /* The next image's bytes and, when labelled, its label. */
    int (*next)(void *arg, uint8_t *pixels, int64_t *label, struct error *e);
    void *arg;
};
/* The first images of the training stream vote; the stream is used up. */
int image_sink_judge_stream(struct image_sink *sink, const struct image_sink_stream *s, struct error *e);
/* image_sink_begin, image_sink_open and image_sink_put for all of a stream. whole: whether it was read to its last
 * image, which is when the reader may insist on the end of the file. */
int image_sink_from_stream(struct image_sink *sink, const struct image_sink_stream *s, bool *whole, struct error *e);

/* Drops the places of images that never came, counts the classes when no names are known, and looks at the contrast. */
void image_sink_close(struct image_sink *sink);

/* Counts images that are there and do not become part of the set. */
void image_sink_leave_out(struct image_sink *sink, uint64_t images);
/* Notes what was decided in place of the user. */
void image_sink_note(struct image_sink *sink, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Notes a problem; text is cut at 512 bytes. Not thread-safe. */
void image_sink_problem(struct image_sink *sink, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
