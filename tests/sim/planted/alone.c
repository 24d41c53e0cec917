/* Planted: a server resumes from its own newest checkpoint, whether or not the other one has that step. */
#include "tests/sim/disk.h"

bool __wrap_disk_newest(const struct disk *d, enum server server, uint64_t step_max, uint64_t *step);

bool __wrap_disk_newest(const struct disk *d, enum server server, uint64_t step_max, uint64_t *step)
{
    uint64_t s = step_max < DISK_STEPS ? step_max + 1 : DISK_STEPS;
    while (s-- > 0)
        if (d->files[s][server].present && !d->files[s][server].damaged) {
            *step = s;
            return true;
        }
    return false;
}
