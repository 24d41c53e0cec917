/* Planted: a gradient does not wait for the acknowledgement of its slot's statistics. */
#include <stddef.h>
#include "worker/session_internal.h"

int __real_session_contribute(struct session *s, struct link *to, struct contribution *c, uint64_t now);
int __wrap_session_contribute(struct session *s, struct link *to, struct contribution *c, uint64_t now);

int __wrap_session_contribute(struct session *s, struct link *to, struct contribution *c, uint64_t now)
{
    int rc = __real_session_contribute(s, to, c, now);
    if (rc != 0 || to->server != SERVER_PROTOTYPE)
        return rc;
    struct slot_in_hand *e = (struct slot_in_hand *)(void *)((char *)c - offsetof(struct slot_in_hand, stats));
    return __real_session_contribute(s, &s->parameter, &e->gradient, now);
}
