/* A table of a few batches under one lock. Each image of a batch is claimed by one thread, which reads it into its
 * place; whoever takes a batch claims images of it too, so that nobody waits while there is work. */
#include "worker/data/image_feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct batch {
    uint64_t key;
    bool used;           /* it is in the table */
    bool passed;         /* it was taken, or is not wanted any more: the next that is wanted may have its place */
    uint32_t held;       /* how often it is taken now */
    uint32_t next, done; /* images that somebody has claimed; that somebody has finished */
    int rc;              /* of the first image that failed */
    struct error error;
    uint32_t *images; /* (size) */
    uint8_t *pixels;  /* (size, H, W, C) */
};

struct image_feed {
    struct image_feed_options options;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool closing;
    struct error failure;
    struct batch *batches;
    pthread_t *threads;
    uint32_t started;
};

static struct batch *find(struct image_feed *f, uint64_t key)
{
    for (uint32_t i = 0; i < f->options.batches; i++)
        if (f->batches[i].used && f->batches[i].key == key)
            return &f->batches[i];
    return NULL;
}

/* Nobody has it or reads into it. */
static bool is_idle(const struct batch *b)
{
    return b->held == 0 && b->next == b->done;
}

/* Which of two goes first when room is needed: what is unused, then what is past, the oldest of it, then what is wanted
 * last. */
static bool goes_before(const struct batch *a, const struct batch *b)
{
    if (a->used != b->used)
        return !a->used;
    if (a->passed != b->passed)
        return a->passed;
    return a->passed ? a->key < b->key : a->key > b->key;
}

static struct batch *choose_victim(struct image_feed *f)
{
    struct batch *best = NULL;
    for (uint32_t i = 0; i < f->options.batches; i++) {
        struct batch *b = &f->batches[i];
        if (is_idle(b) && (best == NULL || goes_before(b, best)))
            best = b;
    }
    return best;
}

static void fill(struct image_feed *f, struct batch *b, uint64_t key, const uint32_t *images)
{
    uint8_t *pixels = b->pixels;
    uint32_t *own = b->images;
    memcpy(own, images, f->options.size * sizeof *own);
    *b = (struct batch){.key = key, .used = true, .images = own, .pixels = pixels};
    pthread_cond_broadcast(&f->changed);
}

void image_feed_want(struct image_feed *f, uint64_t key, const uint32_t *images)
{
    pthread_mutex_lock(&f->lock);
    struct batch *victim = find(f, key) ? NULL : choose_victim(f);
    if (victim && (!victim->used || victim->passed || victim->key > key))
        fill(f, victim, key, images);
    pthread_mutex_unlock(&f->lock);
}

/* Reads the next unclaimed image of b, without the lock meanwhile. The first that fails ends the batch. */
static void read_one(struct image_feed *f, struct batch *b)
{
    struct error e = {0};
    uint32_t i = b->next++;
    pthread_mutex_unlock(&f->lock);
    int rc = image_source_read(f->options.source, b->images[i], b->pixels + i * f->options.image_bytes, &e);
    pthread_mutex_lock(&f->lock);
    b->done++;
    if (rc != 0 && b->rc == 0) {
        b->rc = rc;
        b->error = e;
        b->done += f->options.size - b->next;
        b->next = f->options.size;
    }
    if (rc != 0 && f->failure.code == 0)
        f->failure = e;
    if (b->next == b->done)
        pthread_cond_broadcast(&f->changed);
}

/* With the lock held. NULL: every place is taken or being read into. */
static struct batch *find_or_place(struct image_feed *f, uint64_t key, const uint32_t *images)
{
    struct batch *b = find(f, key);
    if (b == NULL && (b = choose_victim(f)) != NULL) {
        ASSERT(images != NULL);
        fill(f, b, key, images);
    }
    return b;
}

int image_feed_take(struct image_feed *f, uint64_t key, const uint32_t *images, const uint8_t **pixels, struct error *e)
{
    struct batch *b;
    pthread_mutex_lock(&f->lock);
    while ((b = find_or_place(f, key, images)) == NULL)
        pthread_cond_wait(&f->changed, &f->lock);
    b->held++;
    while (b->done < f->options.size)
        if (b->next < f->options.size)
            read_one(f, b);
        else
            pthread_cond_wait(&f->changed, &f->lock);
    int rc = b->rc;
    if (rc != 0) {
        *e = b->error;
        b->used = --b->held > 0; /* whoever wants it next tries again */
    }
    *pixels = b->pixels;
    pthread_mutex_unlock(&f->lock);
    return rc;
}

void image_feed_release(struct image_feed *f, uint64_t key)
{
    pthread_mutex_lock(&f->lock);
    struct batch *b = find(f, key);
    ASSERT(b != NULL && b->held > 0);
    b->held--;
    b->passed = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void image_feed_pass(struct image_feed *f, uint64_t key)
{
    pthread_mutex_lock(&f->lock);
    for (uint32_t i = 0; i < f->options.batches; i++)
        f->batches[i].passed = f->batches[i].passed || f->batches[i].key < key;
    pthread_mutex_unlock(&f->lock);
}

bool image_feed_failure(struct image_feed *f, struct error *out)
{
    pthread_mutex_lock(&f->lock);
    *out = f->failure;
    pthread_mutex_unlock(&f->lock);
    return out->code != 0;
}

/* ---- threads ---- */

/* The batch that is wanted soonest among those with images that nobody has claimed. */
static struct batch *next_batch(struct image_feed *f)
{
    struct batch *best = NULL;
    for (uint32_t i = 0; i < f->options.batches; i++) {
        struct batch *b = &f->batches[i];
        if (b->used && !b->passed && b->next < f->options.size && (best == NULL || b->key < best->key))
            best = b;
    }
    return best;
}

static void *read_ahead(void *arg)
{
    struct image_feed *f = arg;
    pthread_setname_np(pthread_self(), "read");
    pthread_mutex_lock(&f->lock);
    while (!f->closing) {
        struct batch *b = next_batch(f);
        if (b)
            read_one(f, b);
        else
            pthread_cond_wait(&f->changed, &f->lock);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

void image_feed_free(struct image_feed **feed)
{
    struct image_feed *f = *feed;
    *feed = NULL;
    if (f == NULL)
        return;
    pthread_mutex_lock(&f->lock);
    f->closing = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    for (uint32_t i = 0; i < f->started; i++)
        pthread_join(f->threads[i], NULL);
    for (uint32_t i = 0; f->batches && i < f->options.batches; i++) {
        free(f->batches[i].images);
        free(f->batches[i].pixels);
    }
    free(f->batches);
    free(f->threads);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static int allocate(struct image_feed *f)
{
    const struct image_feed_options *o = &f->options;
    f->batches = calloc(o->batches, sizeof *f->batches);
    f->threads = calloc(o->threads, sizeof *f->threads);
    if (f->batches == NULL || f->threads == NULL)
        return ERR_MEMORY;
    for (uint32_t i = 0; i < o->batches; i++) {
        f->batches[i].images = malloc(o->size * sizeof *f->batches[i].images);
        f->batches[i].pixels = malloc(o->size * o->image_bytes);
        if (f->batches[i].images == NULL || f->batches[i].pixels == NULL)
            return ERR_MEMORY;
    }
    return 0;
}

int image_feed_new(const struct image_feed_options *o, struct image_feed **out, struct error *e)
{
    struct image_feed *f = calloc(1, sizeof *f);
    *out = f;
    if (f == NULL)
        return error_set(e, ERR_MEMORY, "no memory to read images ahead");
    f->options = *o;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    if (allocate(f) != 0) {
        image_feed_free(out);
        return error_set(e, ERR_MEMORY, "no memory to read %u batches of %u images of %zu bytes ahead", o->batches,
                         o->size, o->image_bytes);
    }
    while (f->started < o->threads && pthread_create(&f->threads[f->started], NULL, read_ahead, f) == 0)
        f->started++;
    return 0;
}
