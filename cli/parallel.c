/* Threads take the next block from one atomic counter; they live for one call, since calls last seconds. */
#include "cli/parallel.h"

#include <stdatomic.h>
#include <uv.h>
#include "common/error.h"
#include "common/vecmath.h"

struct parallel_job {
    size_t n, block;
    _Atomic size_t next; /* first item not yet taken */
    parallel_body *body;
    void *arg;
};

struct parallel_thread {
    struct parallel_job *job;
    unsigned index;
    uv_thread_t handle;
};

unsigned parallel_threads(void)
{
    unsigned cores = uv_available_parallelism();
    return cores < PARALLEL_THREADS_MAX ? cores : PARALLEL_THREADS_MAX;
}

static void run_blocks(void *arg)
{
    struct parallel_thread *t = arg;
    struct parallel_job *job = t->job;
    compute_thread_init();
    for (;;) {
        size_t begin = atomic_fetch_add(&job->next, job->block);
        if (begin >= job->n)
            return;
        size_t end = job->n - begin < job->block ? job->n : begin + job->block;
        job->body(job->arg, begin, end, t->index);
    }
}

void parallel_for(size_t n, size_t block, unsigned threads, parallel_body *body, void *arg)
{
    ASSERT(block > 0 && threads > 0 && threads <= PARALLEL_THREADS_MAX);
    struct parallel_job job = {.n = n, .block = block, .body = body, .arg = arg};
    struct parallel_thread pool[PARALLEL_THREADS_MAX];
    unsigned started = 1;
    for (; started < threads; started++) {
        pool[started] = (struct parallel_thread){.job = &job, .index = started};
        if (uv_thread_create(&pool[started].handle, run_blocks, &pool[started]) != 0)
            break;
    }
    pool[0] = (struct parallel_thread){.job = &job, .index = 0};
    run_blocks(&pool[0]);
    for (unsigned i = 1; i < started; i++)
        uv_thread_join(&pool[i].handle);
}
