/* Planted: step T counts as over when it is computed, not when all its files are on disk. */
#include "server/shell/incarnation.h"

void __wrap_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc);
void __real_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc);

void __wrap_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc)
{
    if (rc == 0 && !in->leaving && in->o.core->at_end(in->o.core_arg)) {
        in->settled = true;
        rc = in->o.core->settle(in->o.core_arg, now);
    }
    __real_incarnation_end_turn(in, now, rc);
}
