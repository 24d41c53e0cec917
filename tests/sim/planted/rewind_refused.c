/* Planted: a server never goes back, although the other one has lost what it builds upon. */
#include "server/shell/pairing.h"

bool __wrap_pairing_may_go_back(const struct pairing *p, uint64_t other_generation);

bool __wrap_pairing_may_go_back(const struct pairing *p, uint64_t other_generation)
{
    (void)p;
    (void)other_generation;
    return false;
}
