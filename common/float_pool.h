/* A pool of equally long float vectors behind reference-counted buffers. The parameter server builds every version of
 * the weights in a buffer from here, and a worker every gradient, while older ones may still be on their way: once the
 * first have gone out, nothing proportional to the model is allocated or page-faulted any more. Thread-safe, because
 * ZeroMQ's I/O thread and the checkpoint thread drop last references. */
#ifndef DECANT_COMMON_FLOAT_POOL_H
#define DECANT_COMMON_FLOAT_POOL_H

#include <stddef.h>
#include "common/buf.h"

/* Idle vectors kept; more than that go back to the system. Fairly arbitrary: a version is two vectors of parameters,
 * and a handful of versions can be in flight to slow subscribers. */
enum { FLOAT_POOL_IDLE_MAX = 16 };

struct float_pool;

int float_pool_new(size_t floats, struct float_pool **out); /* floats > 0; 0 or ERR_MEMORY */
/* May be called while vectors are still out: the pool lives on until the last of them has come back. */
void float_pool_free(struct float_pool **p);
/* An uninitialised vector, 64-byte aligned, one reference; NULL when out of memory. The last buf_unref returns it to
 * the pool. */
struct buf *float_pool_take(struct float_pool *p);

#endif
