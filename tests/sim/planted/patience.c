/* Planted: a pair that came apart without a restart, because a client sent a gradient without its statistics, waits for
 * ever. */
#include "server/shell/pairing.h"

enum pairing_verdict __wrap_pairing_judge(struct pairing *p, uint64_t other_generation, uint64_t now);
enum pairing_verdict __real_pairing_judge(struct pairing *p, uint64_t other_generation, uint64_t now);

enum pairing_verdict __wrap_pairing_judge(struct pairing *p, uint64_t other_generation, uint64_t now)
{
    uint32_t impatience = p->impatience;
    enum pairing_verdict v = __real_pairing_judge(p, other_generation, now);
    return p->impatience != impatience ? PAIRING_REFUSE : v;
}
