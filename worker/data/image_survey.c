/* A hash wants its bytes in order, threads decode in any. So a few images wait in a ring until those before them have
 * come; a thread that is further ahead waits itself. */
#include "worker/data/image_survey.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { WINDOW = 64 }; /* images that may wait: enough for threads whose images differ in size */

struct image_survey {
    struct image_size size;
    struct contrast contrast;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint32_t shape[IMAGE_SURVEY_SHAPE];
    bool in_order; /* the hash goes on: the shape is known, and no image is missing */
    XXH64_state_t *state;
    uint32_t next;         /* image that is hashed next */
    uint8_t *ring[WINDOW]; /* image i at i % WINDOW */
};

int image_survey_new(const struct image_size *size, const uint32_t shape[IMAGE_SURVEY_SHAPE], struct image_survey **out)
{
    struct image_survey *s = calloc(1, sizeof *s);
    *out = s;
    if (s == NULL)
        return ERR_MEMORY;
    s->size = *size;
    contrast_init(&s->contrast);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->moved, NULL);
    s->in_order = shape != NULL;
    s->state = XXH64_createState();
    if (s->state == NULL) {
        image_survey_free(out);
        return ERR_MEMORY;
    }
    XXH64_reset(s->state, 0);
    if (shape) {
        memcpy(s->shape, shape, sizeof s->shape);
        XXH64_update(s->state, shape, sizeof s->shape);
    }
    return 0;
}

static void drop_waiting(struct image_survey *s)
{
    for (unsigned i = 0; i < WINDOW; i++) {
        free(s->ring[i]);
        s->ring[i] = NULL;
    }
}

void image_survey_free(struct image_survey **survey)
{
    struct image_survey *s = *survey;
    *survey = NULL;
    if (s == NULL)
        return;
    drop_waiting(s);
    XXH64_freeState(s->state);
    pthread_cond_destroy(&s->moved);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Hashes what is there without a gap. */
static void advance(struct image_survey *s)
{
    for (uint8_t **at = &s->ring[s->next % WINDOW]; *at; at = &s->ring[++s->next % WINDOW]) {
        XXH64_update(s->state, *at, image_bytes(&s->size));
        free(*at);
        *at = NULL;
    }
    pthread_cond_broadcast(&s->moved);
}

void image_survey_take(struct image_survey *s, uint32_t i, uint8_t *image)
{
    struct contrast own;
    contrast_init(&own);
    contrast_add(&own, i, image, image_bytes(&s->size), s->size.channels);
    pthread_mutex_lock(&s->lock);
    contrast_merge(&s->contrast, &own);
    while (s->in_order && i - s->next >= WINDOW)
        pthread_cond_wait(&s->moved, &s->lock);
    if (s->in_order) {
        s->ring[i % WINDOW] = image;
        advance(s);
    } else
        free(image);
    pthread_mutex_unlock(&s->lock);
}

void image_survey_miss(struct image_survey *s)
{
    pthread_mutex_lock(&s->lock);
    s->in_order = false;
    drop_waiting(s);
    pthread_cond_broadcast(&s->moved);
    pthread_mutex_unlock(&s->lock);
}

const struct contrast *image_survey_contrast(const struct image_survey *s)
{
    return &s->contrast;
}

bool image_survey_hash(struct image_survey *s, const uint32_t shape[IMAGE_SURVEY_SHAPE], const void *labels,
                       size_t labels_bytes, uint64_t *out)
{
    if (!s->in_order || s->next != shape[0] || memcmp(s->shape, shape, sizeof s->shape) != 0)
        return false;
    s->in_order = false;
    if (labels_bytes > 0)
        XXH64_update(s->state, labels, labels_bytes);
    *out = XXH64_digest(s->state);
    return true;
}
