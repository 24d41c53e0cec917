/* Buffers of buf_new are one allocation, the struct in the first 64 bytes and the data behind it, so that a frame costs
 * one malloc and its data sits on a cache line. */
#include "common/buf.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"

enum { ALIGNMENT = 64 };
_Static_assert(sizeof(struct buf) <= ALIGNMENT, "the struct must fit before the data");

struct buf *buf_new(size_t size)
{
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct buf *b = aligned_alloc(ALIGNMENT, ALIGNMENT + rounded);
    if (b == NULL)
        return NULL;
    b->data = (uint8_t *)b + ALIGNMENT;
    b->size = size;
    atomic_init(&b->refs, 1);
    atomic_init(&b->queued, 0);
    b->release = NULL;
    b->hint = NULL;
    return b;
}

struct buf *buf_copy(const void *data, size_t size)
{
    struct buf *b = buf_new(size);
    if (b != NULL && size > 0)
        memcpy(b->data, data, size);
    return b;
}

struct buf *buf_wrap(void *data, size_t size, void (*release)(void *data, void *hint), void *hint)
{
    struct buf *b = malloc(sizeof *b);
    if (b == NULL)
        return NULL;
    b->data = data;
    b->size = size;
    atomic_init(&b->refs, 1);
    atomic_init(&b->queued, 0);
    b->release = release;
    b->hint = hint;
    return b;
}

struct buf *buf_ref(struct buf *b)
{
    if (b != NULL) {
        uint32_t before = atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
        ASSERT(before > 0 && before < UINT32_MAX);
    }
    return b;
}

void buf_unref(struct buf **b)
{
    struct buf *gone = *b;
    *b = NULL;
    if (gone == NULL)
        return;
    /* Release: our writes happen before the free; acquire: the one who frees sees everybody's writes. */
    uint32_t before = atomic_fetch_sub_explicit(&gone->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1)
        return;
    if (gone->release != NULL)
        gone->release(gone->data, gone->hint);
    free(gone);
}
