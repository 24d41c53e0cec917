/* Writing and resuming. Runs at start, and on a thread of libuv's pool while training. */
#include "server/prototype/mixture_checkpoint.h"

#include <inttypes.h>
#include "proto/run_dir.h"
#include "server/prototype/mixture_file.h"

int mixture_checkpoint_write(const struct run_config *c, const struct mixture *m, const struct mixture_facts *facts,
                             struct error *e)
{
    char path[RUN_PATH_MAX];
    uint64_t step = m->view->version;
    struct mixture_file_info info = {.config = c, .facts = *facts};
    int rc = run_dir_prepare_step(path, c, step, MIXTURE_FILE, e);
    if (rc == 0)
        rc = mixture_file_write(path, m, &info, e);
    return rc == 0 ? run_dir_step_written(c, step, e) : rc;
}

struct resume {
    struct mixture_file_info expected;
    struct mixture *mixture;
    struct mixture_facts *facts;
};

static int load(void *arg, const char *path, uint64_t step, struct error *e)
{
    struct resume *r = arg;
    int rc = mixture_file_read(path, &r->expected, r->mixture, r->facts, e);
    if (rc == 0 && r->mixture->view->version != step)
        rc = error_set(e, ERR_FORMAT, "%s: holds step %" PRIu64, path, r->mixture->view->version);
    return rc;
}

int mixture_checkpoint_resume(const struct run_config *c, uint64_t step_max, struct mixture *m,
                              struct mixture_facts *facts, struct error *e)
{
    struct resume r = {.expected = {.config = c}, .mixture = m, .facts = facts};
    return run_dir_resume(c, MIXTURE_FILE, step_max, load, &r, e);
}
