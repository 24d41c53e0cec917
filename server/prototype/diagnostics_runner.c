/* The job and its pacing. The job touches only input and result. */
#include "server/prototype/diagnostics_runner.h"

#include "common/error.h"
#include "common/log.h"
#include "common/vecmath.h"

static void measure(uv_work_t *work)
{
    struct diagnostics_runner *r = work->data;
    compute_thread_init();
    (void)diagnostics_run(&r->input, &r->result); /* out of memory: no result */
}

static void on_done(uv_work_t *work, int status)
{
    struct diagnostics_runner *r = work->data;
    (void)status; /* never cancelled */
    uint64_t now = uv_now(r->loop);
    struct diagnostics *result = r->result;
    r->result = NULL;
    r->busy = false;
    r->rest_until_ms = now + 3 * (now - r->started_ms);
    diagnostics_input_fini(&r->input);
    if (result == NULL)
        log_warn("event=diagnostics_failed reason=memory");
    r->on_result(r->arg, result);
}

int diagnostics_runner_poll(struct diagnostics_runner *r, const struct mixture *m, uint32_t window)
{
    uint64_t now = uv_now(r->loop);
    if (!r->wanted || r->busy || now < r->rest_until_ms)
        return 0;
    int rc = diagnostics_input_of(m, window, &r->input);
    if (rc != 0)
        return rc;
    r->wanted = false;
    r->busy = true;
    r->started_ms = now;
    r->work.data = r;
    rc = uv_queue_work(r->loop, &r->work, measure, on_done);
    ASSERT(rc == 0); /* fails only for a missing callback */
    return 0;
}
