/* Three lines of logic, shared with the simulator. */
#include "server/shell/pairing.h"

void pairing_begin(struct pairing *p, uint64_t other_generation, uint64_t step)
{
    *p = (struct pairing){.candidate = other_generation, .step = step};
}

bool pairing_due(const struct pairing *p, uint64_t step)
{
    return step >= p->step + PAIRING_PROOF_STEPS;
}

void pairing_note(struct pairing *p, uint64_t other_generation, uint64_t step)
{
    p->known = true;
    p->generation = p->candidate;
    p->candidate = other_generation;
    p->step = step;
}

bool pairing_may_go_back(const struct pairing *p, uint64_t other_generation)
{
    return !p->known || other_generation > p->generation;
}
