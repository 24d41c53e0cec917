/* Planted: a server never goes back, although the other one has lost what it builds upon. */
#include "server/shell/pairing.h"

enum pairing_verdict __wrap_pairing_judge(struct pairing *p, uint64_t other_generation, uint64_t now);

enum pairing_verdict __wrap_pairing_judge(struct pairing *p, uint64_t other_generation, uint64_t now)
{
    (void)p;
    (void)other_generation;
    (void)now;
    return PAIRING_REFUSE;
}
