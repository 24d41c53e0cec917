/* Writing and resuming. Runs at start, and on a thread of libuv's pool while training. */
#include "server/prototype/mixture_checkpoint.h"

#include <inttypes.h>
#include "proto/run_dir.h"
#include "server/prototype/mixture_file.h"

static struct mixture_file_info info_of(const struct run_config *c, uint64_t total_steps)
{
    return (struct mixture_file_info){.config = c, .total_steps = total_steps};
}

int mixture_checkpoint_write(const struct run_config *c, const struct mixture *m, uint64_t total_steps, struct error *e)
{
    char path[RUN_PATH_MAX];
    uint64_t step = m->view->version;
    struct mixture_file_info info = info_of(c, total_steps);
    int rc = run_dir_prepare_step(path, c, step, MIXTURE_FILE, e);
    if (rc == 0)
        rc = mixture_file_write(path, m, &info, e);
    return rc == 0 ? run_dir_step_written(c, step, e) : rc;
}

struct resume {
    struct mixture_file_info expected;
    struct mixture *mixture;
    uint64_t *total_steps;
};

static int load(void *arg, const char *path, uint64_t step, struct error *e)
{
    struct resume *r = arg;
    int rc = mixture_file_read(path, &r->expected, r->mixture, r->total_steps, e);
    if (rc == 0 && r->mixture->view->version != step)
        rc = error_set(e, ERR_FORMAT, "%s: holds step %" PRIu64, path, r->mixture->view->version);
    return rc;
}

int mixture_checkpoint_resume(const struct run_config *c, uint64_t step_max, struct mixture *m, uint64_t *total_steps,
                              struct error *e)
{
    struct resume r = {.expected = info_of(c, 0), .mixture = m, .total_steps = total_steps};
    return run_dir_resume(c, MIXTURE_FILE, step_max, load, &r, e);
}
