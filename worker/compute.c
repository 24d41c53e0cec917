/* Two rings under one lock: jobs to the threads, finished parts to the loop. Neither can overflow: a job is in the
 * first at most once, and has at most two parts in the second. */
#include "worker/compute.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "common/float_pool.h"
#include "common/vecmath.h"

struct part {
    struct slot_job *job;
    unsigned part;
};

struct ring {
    struct part *items;
    size_t room, first, count;
};

/* A slot whose views may be drawn. */
struct expected {
    uint64_t step;
    uint32_t slot;
    bool open; /* no thread has taken it */
};

struct compute {
    struct compute_options options;
    uv_mutex_t lock;
    uv_cond_t wake; /* signalled when a job is queued or expected, and when closing */
    uv_async_t async;
    bool closing;
    struct ring jobs, done;
    struct expected *expected; /* (threads), the latest ones; next_expected: where the next goes */
    uint32_t next_expected;
    struct slot_state **states;      /* (jobs_max) what part A left for part B; made when first needed */
    struct slot_workspace **workers; /* (threads) */
    uv_thread_t *threads;
    uint32_t started;
    struct float_pool *gradients, *new_buffers; /* (P), (Q); the latter NULL when Q = 0 */
};

static int ring_init(struct ring *r, size_t room)
{
    r->room = room;
    r->items = calloc(room, sizeof *r->items);
    return r->items ? 0 : ERR_MEMORY;
}

static void ring_put(struct ring *r, struct part p)
{
    ASSERT(r->count < r->room);
    r->items[(r->first + r->count++) % r->room] = p;
}

static bool ring_take(struct ring *r, struct part *out)
{
    if (r->count == 0)
        return false;
    *out = r->items[r->first];
    r->first = (r->first + 1) % r->room;
    r->count--;
    return true;
}

/* ---- threads ---- */

static void report(struct compute *c, struct slot_job *job, unsigned part)
{
    uv_mutex_lock(&c->lock);
    ring_put(&c->done, (struct part){job, part});
    uv_mutex_unlock(&c->lock);
    uv_async_send(&c->async);
}

/* The job whose views this thread has drawn comes before those of others. */
static bool take_job(struct compute *c, const struct slot_workspace *w, struct part *out)
{
    struct ring *r = &c->jobs;
    for (size_t i = 1; i < r->count; i++) {
        struct part *first = &r->items[r->first], *at = &r->items[(r->first + i) % r->room];
        if (slot_drawn(w, at->job->step, at->job->slot)) {
            struct part drawn = *at;
            *at = *first;
            *first = drawn;
            break;
        }
    }
    return ring_take(r, out);
}

static bool take_expected(struct compute *c, struct expected *out)
{
    for (uint32_t i = 0; i < c->options.threads; i++)
        if (c->expected[i].open) {
            c->expected[i].open = false;
            *out = c->expected[i];
            return true;
        }
    return false;
}

static struct slot_job *next_job(struct compute *c, struct slot_workspace *w)
{
    struct part p = {0};
    struct expected ahead;
    uv_mutex_lock(&c->lock);
    while (!c->closing && !take_job(c, w, &p)) {
        if (!take_expected(c, &ahead)) {
            uv_cond_wait(&c->wake, &c->lock);
            continue;
        }
        uv_mutex_unlock(&c->lock);
        slot_draw_ahead(w, ahead.step, ahead.slot);
        uv_mutex_lock(&c->lock);
    }
    uv_mutex_unlock(&c->lock);
    return p.job;
}

static struct slot_weights weights_of(const struct slot_job *job)
{
    return (struct slot_weights){
        .student = (const float *)job->student->data,
        .teacher = (const float *)job->teacher->data,
        .buffers = job->buffers ? (const float *)job->buffers->data : NULL,
    };
}

static int compute_a(struct compute *c, struct slot_workspace *w, struct slot_job *job)
{
    struct slot_state **state = &c->states[job->index];
    struct slot_weights weights = weights_of(job);
    if (*state == NULL && slot_state_new(c->options.shared, state) != 0)
        return ERR_MEMORY;
    return slot_part_a(w, job->step, job->slot, &weights, job->mixture_a, *state, job->stats);
}

static int compute_b(struct compute *c, struct slot_workspace *w, struct slot_job *job)
{
    const struct manifest *m = slot_manifest(c->options.shared);
    struct slot_weights weights = weights_of(job);
    job->gradient = float_pool_take(c->gradients);
    job->new_buffers = m->buffer_floats > 0 ? float_pool_take(c->new_buffers) : buf_new(0);
    job->metrics = buf_new(SLOT_METRICS * sizeof(double));
    if (job->gradient == NULL || job->new_buffers == NULL || job->metrics == NULL)
        return ERR_MEMORY;
    job->metric_count = SLOT_METRICS;
    return slot_part_b(w, c->states[job->index], &weights, job->mixture_b, (float *)job->gradient->data,
                       (float *)job->new_buffers->data, (double *)job->metrics->data);
}

/* Hands over in two steps: once A is reported, what A wrote is the loop's; once B is reported, so is the rest. That
 * is why results need no lock. If A fails B is reported with the same error, as the session waits for a report of
 * each part. */
static void run_job(struct compute *c, struct slot_workspace *w, struct slot_job *job)
{
    unsigned parts = job->parts;
    int rc = 0;
    if (parts & SLOT_PART_A) {
        rc = job->rc_a = compute_a(c, w, job);
        report(c, job, SLOT_PART_A);
    }
    if (parts & SLOT_PART_B) {
        job->rc_b = rc == 0 ? compute_b(c, w, job) : rc;
        report(c, job, SLOT_PART_B);
    }
}

struct thread_start {
    struct compute *c;
    struct slot_workspace *worker;
};

static void thread_main(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;
    struct slot_job *job;
    free(arg);
    pthread_setname_np(pthread_self(), "compute"); /* for top -H, and for benchmarks that add up these threads' time */
    compute_thread_init();
    while ((job = next_job(start.c, start.worker)) != NULL)
        run_job(start.c, start.worker, job);
}

/* ---- the loop's side ---- */

static void on_async(uv_async_t *async)
{
    struct compute *c = async->data;
    for (;;) {
        struct part p;
        uv_mutex_lock(&c->lock);
        bool more = !c->closing && ring_take(&c->done, &p);
        uv_mutex_unlock(&c->lock);
        if (!more)
            return;
        c->options.on_part(c->options.arg, p.job, p.part);
    }
}

void compute_submit(struct compute *c, struct slot_job *job)
{
    uv_mutex_lock(&c->lock);
    /* Its weights are there, so that nothing of its step is early now. */
    for (uint32_t i = 0; i < c->options.threads; i++)
        c->expected[i].open = c->expected[i].open && c->expected[i].step > job->step;
    ring_put(&c->jobs, (struct part){.job = job});
    uv_cond_signal(&c->wake);
    uv_mutex_unlock(&c->lock);
}

void compute_expect(struct compute *c, uint64_t step, uint32_t slot)
{
    bool known = false;
    uv_mutex_lock(&c->lock);
    for (uint32_t i = 0; i < c->options.threads; i++)
        known = known || (c->expected[i].step == step && c->expected[i].slot == slot);
    if (!known) {
        c->expected[c->next_expected++ % c->options.threads] = (struct expected){step, slot, true};
        uv_cond_signal(&c->wake);
    }
    uv_mutex_unlock(&c->lock);
}

static void release(struct compute *c)
{
    for (uint32_t i = 0; c->workers && i < c->options.threads; i++)
        slot_workspace_free(&c->workers[i]);
    for (uint32_t i = 0; c->states && i < c->options.jobs_max; i++)
        slot_state_free(&c->states[i]);
    free(c->workers);
    free(c->states);
    free(c->threads);
    float_pool_free(&c->gradients);
    float_pool_free(&c->new_buffers);
    free(c->expected);
    free(c->jobs.items);
    free(c->done.items);
    uv_cond_destroy(&c->wake);
    uv_mutex_destroy(&c->lock);
    free(c);
}

static void on_closed(uv_handle_t *handle)
{
    release(handle->data);
}

void compute_close(struct compute **compute)
{
    struct compute *c = *compute;
    *compute = NULL;
    if (c == NULL)
        return;
    uv_mutex_lock(&c->lock);
    c->closing = true;
    uv_cond_broadcast(&c->wake);
    uv_mutex_unlock(&c->lock);
    for (uint32_t i = 0; i < c->started; i++)
        uv_thread_join(&c->threads[i]);
    uv_close((uv_handle_t *)&c->async, on_closed);
}

static int start_thread(struct compute *c, uint32_t i, struct error *e)
{
    int rc = slot_workspace_new(c->options.shared, &c->workers[i], e);
    if (rc != 0)
        return rc;
    struct thread_start *start = malloc(sizeof *start);
    if (start == NULL)
        return error_set(e, ERR_MEMORY, "no memory");
    *start = (struct thread_start){c, c->workers[i]};
    if (uv_thread_create(&c->threads[i], thread_main, start) != 0) {
        free(start);
        return error_set(e, ERR_IO, "thread %u of %u did not start: set worker.threads lower", i + 1,
                         c->options.threads);
    }
    c->started++;
    return 0;
}

static int allocate(struct compute *c, struct error *e)
{
    const struct compute_options *o = &c->options;
    c->states = calloc(o->jobs_max, sizeof(struct slot_state *));
    c->workers = calloc(o->threads, sizeof(struct slot_workspace *));
    c->threads = calloc(o->threads, sizeof *c->threads);
    c->expected = calloc(o->threads, sizeof *c->expected);
    if (ring_init(&c->jobs, o->jobs_max) != 0 || ring_init(&c->done, 2 * (size_t)o->jobs_max) != 0 ||
        c->states == NULL || c->workers == NULL || c->threads == NULL || c->expected == NULL)
        return error_set(e, ERR_MEMORY, "no memory");
    const struct manifest *m = slot_manifest(o->shared);
    int rc = float_pool_new(m->parameter_floats, &c->gradients);
    if (rc == 0 && m->buffer_floats > 0)
        rc = float_pool_new(m->buffer_floats, &c->new_buffers);
    return rc == 0 ? 0 : error_set(e, rc, "no memory");
}

int compute_new(uv_loop_t *loop, const struct compute_options *o, struct compute **out, struct error *e)
{
    struct compute *c = calloc(1, sizeof *c);
    *out = NULL;
    if (c == NULL)
        return error_set(e, ERR_MEMORY, "no memory");
    c->options = *o;
    uv_mutex_init(&c->lock);
    uv_cond_init(&c->wake);
    uv_async_init(loop, &c->async, on_async);
    c->async.data = c;
    int rc = allocate(c, e);
    for (uint32_t i = 0; rc == 0 && i < o->threads; i++)
        rc = start_thread(c, i, e);
    if (rc != 0)
        compute_close(&c);
    *out = c;
    return rc;
}
