/* The server counts names from 1 in each of its lives, so that two clients can get the same. */
#include "server/prototype/ledger.h"

uint64_t __wrap_ledger_name(struct ledger *l, uint64_t generation);
uint64_t __wrap_ledger_name(struct ledger *l, uint64_t generation)
{
    (void)generation;
    return (UINT64_C(1) << LEDGER_GENERATION_SHIFT) | ++l->names;
}
