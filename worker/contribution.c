/* The message is kept as it was first made; only the generation is set in each copy, since a restarted server
 * refuses its earlier ones. */
#include "worker/contribution.h"

void contribution_hold(struct contribution *c)
{
    c->held = true;
    c->sent = false;
    c->sent_at = 0;
}

bool contribution_due(const struct contribution *c, uint64_t now)
{
    return c->held && (c->sent_at == 0 || now - c->sent_at >= CONTRIBUTION_RESEND_US);
}

void contribution_copy(struct contribution *c, uint64_t generation, uint64_t now, struct msg *out)
{
    *out = c->msg;
    for (uint32_t i = 0; i < out->tensor_count; i++)
        buf_ref(out->tensors[i].data);
    out->generation = generation;
    c->sent = true;
    c->sent_at = now;
}

void contribution_hurry(struct contribution *c)
{
    c->sent_at = 0;
}

void contribution_drop(struct contribution *c)
{
    if (c->held)
        msg_fini(&c->msg);
    *c = (struct contribution){0};
}
