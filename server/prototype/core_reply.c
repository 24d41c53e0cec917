/* Replies, and what they count. */
#include "server/prototype/core_reply.h"

#include <stdio.h>
#include "proto/config_wire.h"

uint64_t prototype_core_version(const struct prototype_core *c)
{
    return c->mixture->view->version;
}

void prototype_core_reply(const struct prototype_core *c, struct msg *m, enum msg_type type)
{
    msg_init(m, type, c->config.run.name);
    m->generation = c->generation;
    m->config = c->config_hash;
    m->step = prototype_core_version(c);
}

int prototype_core_refuse(struct prototype_core *c, const struct peer *from, const struct msg *m, enum reason why,
                          const char *text, struct outbox *out)
{
    ASSERT(why > 0 && why < REASON_END);
    c->counters.refused[why]++;
    struct msg reply;
    prototype_core_reply(c, &reply, MSG_ERROR);
    reply.code = why;
    reply.step = m->step;
    reply.slot = m->slot;
    reply.slots = m->slots;
    reply.seq = m->seq;
    snprintf(reply.text, sizeof reply.text, "%.*s", (int)sizeof reply.text - 1, text);
    if (why == REASON_WRONG_CONFIG && m->type == MSG_HELLO && m->config != c->config_hash)
        (void)config_wire_add(&c->config, &reply); /* a courtesy */
    return outbox_to_peer(out, from, &reply);
}

int prototype_core_ack(struct prototype_core *c, const struct peer *from, const struct msg *m, enum ack_code code,
                       struct outbox *out)
{
    struct msg reply;
    prototype_core_reply(c, &reply, MSG_ACK);
    reply.code = code;
    reply.step = m->step;
    reply.slot = m->slot;
    reply.slots = m->slots;
    reply.seq = m->seq;
    return outbox_to_peer(out, from, &reply);
}

int prototype_core_acknowledge(struct prototype_core *c, const struct peer *from, const struct msg *m,
                               enum ack_code code, struct outbox *out)
{
    uint64_t *counter[] = {&c->counters.applied, &c->counters.duplicates, &c->counters.stale};
    (*counter[code])++;
    return prototype_core_ack(c, from, m, code, out);
}
