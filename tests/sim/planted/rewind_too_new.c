/* Planted: who goes back takes the newest checkpoint, not the newest at or below the step of the other server. */
#include "server/shell/incarnation.h"

void __wrap_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc);
void __real_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc);

void __wrap_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc)
{
    struct error e = {0};
    uint64_t step_max;
    if (rc == 0 && !in->leaving && in->o.core->take_rewind(in->o.core_arg, &step_max))
        rc = incarnation_go_back(in, now, UINT64_MAX, &e);
    __real_incarnation_end_turn(in, now, rc);
}
