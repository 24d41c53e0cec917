/* Planted: leases never run out. */
#include "server/parameter/leases.h"

bool __wrap_leases_take_expired(struct leases *l, uint64_t now, uint64_t *worker);

bool __wrap_leases_take_expired(struct leases *l, uint64_t now, uint64_t *worker)
{
    (void)l;
    (void)now;
    (void)worker;
    return false;
}
