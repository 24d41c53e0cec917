/* Planted: the generation is not kept on disk, so that a restarted server has the number that it had before. */
#include "tests/sim/disk.h"

uint64_t __wrap_disk_raise_generation(struct disk *d, enum server server);

uint64_t __wrap_disk_raise_generation(struct disk *d, enum server server)
{
    (void)server;
    d->generation[SERVER_PARAMETER] = d->generation[SERVER_PROTOTYPE] = 1;
    return 1;
}
