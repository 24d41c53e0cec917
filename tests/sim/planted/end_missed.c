/* Planted: a parameter server that stands before step T does not look whether T has become whole on disk. The prototype
 * server does, and leaves. */
#include "server/shell/incarnation.h"

void __wrap_incarnation_on_timer(struct incarnation *in, uint64_t now, int rc);
void __real_incarnation_on_timer(struct incarnation *in, uint64_t now, int rc);

void __wrap_incarnation_on_timer(struct incarnation *in, uint64_t now, int rc)
{
    if (in->o.server == SERVER_PARAMETER)
        incarnation_end_turn(in, now, rc);
    else
        __real_incarnation_on_timer(in, now, rc);
}
