/* Reference-counted byte buffers: what frames and tensors are made of. A buffer is immutable once a second reference
 * exists. The count is atomic because ZeroMQ's I/O thread drops the last reference of a sent frame. Data of buffers
 * made by buf_new is 64-byte aligned; a wrapped buffer has whatever alignment its memory has. */
#ifndef DECANT_COMMON_BUF_H
#define DECANT_COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *data;
    size_t size; /* bytes in use */
    _Atomic uint32_t refs;
    _Atomic uint32_t queued;                 /* common/net_frames.c: how often it waits to be sent */
    void (*release)(void *data, void *hint); /* called once with the last reference; may be NULL */
    void *hint;
};

struct buf *buf_new(size_t size);                    /* uninitialised, one reference; NULL when out of memory */
struct buf *buf_copy(const void *data, size_t size); /* a private copy of data */
/* Takes over memory owned elsewhere: release(data, hint) is called with the last reference. NULL when out of memory:
 * the data stays the caller's then. */
struct buf *buf_wrap(void *data, size_t size, void (*release)(void *data, void *hint), void *hint);
struct buf *buf_ref(struct buf *b); /* one more reference; NULL-safe; returns b */
void buf_unref(struct buf **b);     /* drops one and nulls *b; NULL-safe */

#endif
