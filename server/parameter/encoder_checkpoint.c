/* Writing and resuming. Runs at start, and on a thread of libuv's pool while training. */
#include "server/parameter/encoder_checkpoint.h"

#include <inttypes.h>
#include "proto/run_dir.h"

int encoder_checkpoint_write(const struct run_config *c, const struct encoder_state *s, struct error *e)
{
    char path[RUN_PATH_MAX];
    int rc = run_dir_prepare_step(path, c, s->step, ENCODER_FILE, e);
    if (rc == 0)
        rc = weights_file_write(path, c, s, e);
    return rc == 0 ? run_dir_step_written(c, s->step, e) : rc;
}

struct resume {
    const struct run_config *config;
    struct encoder_state *out;
};

static int load(void *arg, const char *path, uint64_t step, struct error *e)
{
    struct resume *r = arg;
    int rc = weights_file_read(path, r->config, r->out, e);
    if (rc == 0 && r->out->step != step) {
        rc = error_set(e, ERR_FORMAT, "%s: holds step %" PRIu64, path, r->out->step);
        encoder_state_fini(r->out);
    }
    return rc;
}

int encoder_checkpoint_resume(const struct run_config *c, uint64_t step_max, struct encoder_state *out, struct error *e)
{
    struct resume r = {.config = c, .out = out};
    return run_dir_resume(c, ENCODER_FILE, step_max, load, &r, e);
}
