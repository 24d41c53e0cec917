/* The job and its pacing. The job touches only input and result, and the loop leaves both alone until it is done. */
#include "server/prototype/diagnostics_runner.h"

#include <stdatomic.h>
#include "common/error.h"
#include "common/log.h"
#include "common/vecmath.h"

static uint64_t clock_ms(void)
{
    return uv_hrtime() / 1000000;
}

static bool is_late(const void *arg)
{
    const struct diagnostics_runner *r = arg;
    uint64_t end_ms = atomic_load(&r->end_ms);
    return end_ms > 0 && clock_ms() >= end_ms;
}

static void measure(uv_work_t *work)
{
    struct diagnostics_runner *r = work->data;
    compute_thread_init();
    r->rc = diagnostics_run(&r->input, &r->result);
}

static void on_done(uv_work_t *work, int status)
{
    struct diagnostics_runner *r = work->data;
    (void)status; /* never cancelled */
    uint64_t now = uv_now(r->loop);
    struct diagnostics *result = r->result;
    r->result = NULL;
    r->busy = false;
    if (r->rewound)
        diagnostics_input_forget(&r->input);
    r->rewound = false;
    r->rest_until_ms = now + 3 * (now - r->started_ms);
    if (r->rc == ERR_CLOSED)
        log_info("event=diagnostics_given_up version=%llu reason=leaving", (unsigned long long)r->input.version);
    else if (result == NULL)
        log_warn("event=diagnostics_failed reason=memory");
    r->on_result(r->arg, result);
}

static void on_idle(uv_idle_t *idle)
{
    struct diagnostics_runner *r = idle->data;
    uv_idle_stop(idle);
    r->again(r->arg);
}

/* A turn of its own follows, without waiting for a message. */
static void wake(struct diagnostics_runner *r)
{
    if (!r->idle_open)
        uv_idle_init(r->loop, &r->idle);
    r->idle_open = true;
    r->idle.data = r;
    uv_idle_start(&r->idle, on_idle);
}

/* True when there is nothing more to copy. */
static bool copy_some(struct diagnostics_runner *r, const struct mixture *m, uint32_t window)
{
    uint32_t rows = DIAGNOSTICS_TURN_BYTES / (m->options.D * (uint32_t)sizeof(float));
    if (diagnostics_input_follow(&r->input, m, window, r->leaving ? m->options.K : rows))
        return true;
    if (!r->leaving)
        wake(r);
    return false;
}

int diagnostics_runner_poll(struct diagnostics_runner *r, const struct mixture *m, uint32_t window)
{
    uint64_t now = uv_now(r->loop);
    if (!r->wanted || r->busy || now < r->rest_until_ms)
        return 0;
    int rc = r->input.held ? 0 : diagnostics_input_init(&r->input, m);
    if (rc != 0 || !copy_some(r, m, window))
        return rc;
    r->input.stop = is_late;
    r->input.stop_arg = r;
    r->wanted = false;
    r->busy = true;
    r->started_ms = now;
    r->work.data = r;
    rc = uv_queue_work(r->loop, &r->work, measure, on_done);
    ASSERT(rc == 0); /* fails only for a missing callback */
    return 0;
}

void diagnostics_runner_rewound(struct diagnostics_runner *r)
{
    r->rewound = r->busy; /* the job reads what is held */
    if (!r->busy)
        diagnostics_input_forget(&r->input);
}

void diagnostics_runner_end(struct diagnostics_runner *r, uint64_t within_ms)
{
    r->leaving = true;
    if (r->idle_open && !uv_is_closing((uv_handle_t *)&r->idle))
        uv_close((uv_handle_t *)&r->idle, NULL);
    atomic_store(&r->end_ms, clock_ms() + within_ms);
}

void diagnostics_runner_fini(struct diagnostics_runner *r)
{
    ASSERT(!r->busy);
    diagnostics_input_fini(&r->input);
}
