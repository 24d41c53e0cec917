/* Reads the newest checkpoint's metadata. */
#include "cli/run_progress.h"

#include <stdlib.h>
#include <string.h>
#include "common/safetensors.h"
#include "proto/run_dir.h"

void run_progress_read(const struct run_config *c, struct run_progress *out)
{
    char path[RUN_PATH_MAX];
    struct safetensors file;
    memset(out, 0, sizeof *out);
    out->any = run_dir_newest(c, &out->step);
    if (!out->any)
        out->step = 0;
    if (!out->any || run_dir_step_path(path, c, out->step, ENCODER_FILE, NULL) != 0 ||
        safetensors_read(path, &file, NULL) != 0)
        return;
    const char *total = safetensors_meta(&file, "total_steps");
    out->total = total ? strtoull(total, NULL, 10) : 0;
    safetensors_fini(&file);
}

bool run_progress_complete(const struct run_progress *p)
{
    return p->any && p->total > 0 && p->step == p->total;
}
