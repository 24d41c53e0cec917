/* Reads the newest checkpoint's metadata. */
#include "cli/run_progress.h"

#include <stdlib.h>
#include <string.h>
#include "cli/step_check.h"
#include "cli/step_list.h"
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

bool run_progress_sound(const struct run_config *c, uint64_t *step)
{
    struct step_list steps;
    struct step_check check;
    bool sound = false;
    if (step_list_read(c->run.out, &steps, NULL) != 0)
        return false;
    for (size_t i = steps.count; !sound && i-- > 0;) {
        if (!step_entry_complete(&steps.items[i]))
            continue;
        step_check(&steps.items[i], &check);
        sound = check.problem_count == 0;
        *step = steps.items[i].step;
    }
    step_list_fini(&steps);
    return sound;
}

bool run_progress_complete(const struct run_progress *p)
{
    return p->any && p->total > 0 && p->step == p->total;
}
