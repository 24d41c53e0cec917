/* Planted: the acknowledgement of one slot is dropped every time. */
#include "proto/msg.h"

int __real_outbox_to_peer(struct outbox *o, const struct peer *p, struct msg *m);
int __wrap_outbox_to_peer(struct outbox *o, const struct peer *p, struct msg *m);

int __wrap_outbox_to_peer(struct outbox *o, const struct peer *p, struct msg *m)
{
    if (m->type != MSG_ACK || m->step != 4 || m->slot != 0)
        return __real_outbox_to_peer(o, p, m);
    msg_fini(m);
    return 0;
}
