/* Blocks of work on a few threads. Each block is computed alike whichever thread takes it, so results do not depend on
 * how many there are. */
#ifndef DECANT_CLI_PARALLEL_H
#define DECANT_CLI_PARALLEL_H

#include <stddef.h>

enum { PARALLEL_THREADS_MAX = 16 }; /* beyond this the evaluation is bound by memory */

/* How many threads this machine suggests: its available cores, at most PARALLEL_THREADS_MAX. */
unsigned parallel_threads(void);

/* Items [begin, end) by thread number `thread` in 0..threads-1; no two calls with the same thread overlap. */
typedef void parallel_body(void *arg, size_t begin, size_t end, unsigned thread);

/* Calls body for [0, block), [block, 2 block) ... up to n, on `threads` threads, the caller's being one of them. Falls
 * back to fewer threads when the system grants no more. */
void parallel_for(size_t n, size_t block, unsigned threads, parallel_body *body, void *arg);

#endif
