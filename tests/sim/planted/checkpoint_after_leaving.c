/* Planted: a server that was told to end leaves as soon as its core has stopped, before the snapshot that is due then
 * is handed over and written. */
#include "server/shell/incarnation.h"

void __wrap_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc);
void __real_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc);
void __wrap_incarnation_on_signal(struct incarnation *in, uint64_t now);

static void leave(struct incarnation *in)
{
    in->leaving = in->leaving || in->o.core->stopped(in->o.core_arg);
}

void __wrap_incarnation_end_turn(struct incarnation *in, uint64_t now, int rc)
{
    if (in->signals > 0)
        leave(in);
    __real_incarnation_end_turn(in, now, rc);
}

void __wrap_incarnation_on_signal(struct incarnation *in, uint64_t now)
{
    in->signals++;
    int rc = in->o.core->drain(in->o.core_arg, now);
    __wrap_incarnation_end_turn(in, now, rc);
}
