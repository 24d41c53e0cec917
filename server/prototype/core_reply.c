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

/* Repeats where in the run m is, and its number. */
static void reply_to(const struct prototype_core *c, const struct msg *m, enum msg_type type, uint32_t code,
                     struct msg *out)
{
    prototype_core_reply(c, out, type);
    out->code = code;
    out->step = m->step;
    out->slot = m->slot;
    out->slots = m->slots;
    out->seq = m->seq;
}

int prototype_core_refuse(struct prototype_core *c, const struct peer *from, const struct msg *m, enum reason why,
                          const char *text, struct outbox *out)
{
    ASSERT(why > 0 && why < REASON_END);
    c->counters.refused[why]++;
    struct msg reply;
    reply_to(c, m, MSG_ERROR, why, &reply);
    snprintf(reply.text, sizeof reply.text, "%.*s", (int)sizeof reply.text - 1, text);
    if (why == REASON_WRONG_CONFIG && m->type == MSG_HELLO && m->config != c->config_hash)
        (void)config_wire_add(&c->config, &reply); /* a courtesy */
    return outbox_to_peer(out, from, &reply);
}

int prototype_core_ack(struct prototype_core *c, const struct peer *from, const struct msg *m, enum ack_code code,
                       struct outbox *out)
{
    struct msg reply;
    reply_to(c, m, MSG_ACK, code, &reply);
    return outbox_to_peer(out, from, &reply);
}

int prototype_core_acknowledge(struct prototype_core *c, const struct peer *from, const struct msg *m,
                               enum ack_code code, struct outbox *out)
{
    uint64_t *counter[] = {&c->counters.applied, &c->counters.duplicates, &c->counters.stale};
    (*counter[code])++;
    return prototype_core_ack(c, from, m, code, out);
}
