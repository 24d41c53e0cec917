/* Idle vectors wait on a stack under a mutex: the one that came back last goes out first, since its pages are
 * warmest. */
#include "common/float_pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include "common/error.h"

enum { VECTOR_ALIGNMENT = 64 };

struct float_pool {
    pthread_mutex_t lock;
    size_t bytes;                    /* of a vector's data */
    void *idle[FLOAT_POOL_IDLE_MAX]; /* returned, waiting to be taken again */
    size_t idle_count;
    size_t away; /* vectors taken and not yet returned */
    bool closed; /* float_pool_free was called */
};

int float_pool_new(size_t floats, struct float_pool **out)
{
    ASSERT(floats > 0);
    struct float_pool *p = calloc(1, sizeof *p);
    if (p == NULL)
        return ERR_MEMORY;
    p->bytes = floats * sizeof(float);
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return 0;
}

static void pool_destroy(struct float_pool *p)
{
    for (size_t i = 0; i < p->idle_count; i++)
        free(p->idle[i]);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void float_pool_free(struct float_pool **p)
{
    struct float_pool *pool = *p;
    *p = NULL;
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    bool last = pool->away == 0;
    pthread_mutex_unlock(&pool->lock);
    if (last)
        pool_destroy(pool);
}

static void pool_return(void *data, void *hint)
{
    struct float_pool *p = hint;
    pthread_mutex_lock(&p->lock);
    p->away--;
    bool keep = !p->closed && p->idle_count < FLOAT_POOL_IDLE_MAX;
    if (keep)
        p->idle[p->idle_count++] = data;
    bool last = p->closed && p->away == 0;
    pthread_mutex_unlock(&p->lock);
    if (!keep)
        free(data);
    if (last)
        pool_destroy(p);
}

static void *pool_memory(struct float_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->away++;
    void *data = p->idle_count > 0 ? p->idle[--p->idle_count] : NULL;
    pthread_mutex_unlock(&p->lock);
    if (data != NULL)
        return data;
    size_t rounded = (p->bytes + VECTOR_ALIGNMENT - 1) / VECTOR_ALIGNMENT * VECTOR_ALIGNMENT;
    return aligned_alloc(VECTOR_ALIGNMENT, rounded);
}

static void pool_forget(struct float_pool *p)
{
    pthread_mutex_lock(&p->lock);
    p->away--;
    pthread_mutex_unlock(&p->lock);
}

struct buf *float_pool_take(struct float_pool *p)
{
    void *data = pool_memory(p);
    struct buf *b = data ? buf_wrap(data, p->bytes, pool_return, p) : NULL;
    if (b == NULL) {
        free(data);
        pool_forget(p);
    }
    return b;
}
