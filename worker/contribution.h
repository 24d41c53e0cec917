/* A message that must arrive: it is held, and sent again, until the server has acknowledged it, refused it, or shown
 * that it is superfluous. STATS, GRADIENT and INIT are such messages. Servers apply each once, whatever arrives
 * twice.
 *
 *   contribution_hold(&c)                     after c.msg was filled
 *   if (contribution_due(&c, now))            first, after RESEND, and after contribution_hurry
 *       contribution_copy(&c, generation, now, &copy), send the copy
 *   contribution_drop(&c)                     when nobody needs it any more
 *
 * All zeroes is a contribution that holds nothing. Time is in microseconds of any monotonic clock, never 0. */
#ifndef DECANT_WORKER_CONTRIBUTION_H
#define DECANT_WORKER_CONTRIBUTION_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/msg.h"

#define CONTRIBUTION_RESEND_US UINT64_C(2000000)

struct contribution {
    struct msg msg;
    bool held;        /* msg is there, not acknowledged yet */
    bool sent;        /* at least once: the tensors are shared from then on, and must not be written to */
    uint64_t sent_at; /* 0: not sent yet, or to be sent again at once */
};

/* c->msg is filled (with tensors of its own) or about to be; from now on contribution_drop releases it. */
void contribution_hold(struct contribution *c);
bool contribution_due(const struct contribution *c, uint64_t now);
/* What to send now: shares the tensors and names the server's present generation. It counts as sent. */
void contribution_copy(struct contribution *c, uint64_t generation, uint64_t now, struct msg *out);
void contribution_hurry(struct contribution *c); /* due at once: what was sent may be lost */
void contribution_drop(struct contribution *c);

#endif
