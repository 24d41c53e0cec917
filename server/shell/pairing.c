/* Believing and doubting, shared with the simulator. */
#include "server/shell/pairing.h"

void pairing_init(struct pairing *p)
{
    *p = (struct pairing){.trust = PAIRING_TRUST};
}

void pairing_begin(struct pairing *p, uint64_t other_generation, uint64_t step)
{
    p->known = false;
    p->candidate = other_generation;
    p->step = p->own_step = step;
    p->moved_ms = p->asked_ms = 0;
}

void pairing_moved(struct pairing *p, uint64_t step, uint64_t now)
{
    if (step == p->own_step && p->moved_ms != 0)
        return;
    if (p->moved_ms != 0) {
        uint64_t took = now - p->moved_ms, faded = p->step_ms - p->step_ms / 4;
        p->step_ms = took > faded ? took : faded;
    }
    p->own_step = step;
    p->moved_ms = now;
    p->asked_ms = 0;
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
    p->trust = PAIRING_TRUST;
    p->impatience = 0;
}

static uint64_t patience_ms(const struct pairing *p)
{
    uint64_t base = PAIRING_PATIENCE_STEPS * p->step_ms;
    base = base > PAIRING_PATIENCE_MS ? base : PAIRING_PATIENCE_MS;
    uint64_t patience = base << (p->impatience < 16 ? p->impatience : 16);
    uint64_t most = base > PAIRING_PATIENCE_MAX_MS ? base : PAIRING_PATIENCE_MAX_MS;
    return patience < most ? patience : most;
}

/* Asked again and again, and nothing moves. */
static bool is_stuck(struct pairing *p, uint64_t now)
{
    if (p->asked_ms == 0)
        p->asked_ms = now;
    if (now - p->asked_ms < patience_ms(p))
        return false;
    p->asked_ms = 0;
    p->impatience++;
    return true;
}

enum pairing_verdict pairing_judge(struct pairing *p, uint64_t other_generation, uint64_t now)
{
    uint64_t worked_with = p->known ? p->generation : p->candidate;
    if (other_generation != worked_with)
        return PAIRING_GO_BACK;
    if (!p->known && p->trust > 0) {
        p->trust--;
        return PAIRING_GO_BACK;
    }
    if (!is_stuck(p, now))
        return PAIRING_REFUSE;
    return p->known ? PAIRING_GO_NEWEST : PAIRING_GO_BACK;
}
