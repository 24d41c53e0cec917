/* Does a server have any reason to go back? A worker asks for it (REWIND), and a worker can be wrong or worse. But the
 * other server can only have lost something if it was started or went back itself, and its generation says so. A server
 * therefore remembers the generation that it is known to have worked with, and goes back only when the other's has
 * risen since.
 *
 * Known to have worked with: it was read PAIRING_PROOF_STEPS steps ago or before. The two may have resumed from
 * different steps, and what workers still hold of earlier incarnations carries a server a few steps further, but never
 * that many. Until the first generation is known in this way any REWIND is believed.
 *
 *   pairing_begin(&p, other_generation, step);             // after start, and after each going back
 *   if (pairing_due(&p, step))                             // whenever the own step may have moved
 *       pairing_note(&p, other_generation_now, step);
 *   if (pairing_may_go_back(&p, other_generation_now)) ... // a REWIND was asked for */
#ifndef DECANT_SERVER_SHELL_PAIRING_H
#define DECANT_SERVER_SHELL_PAIRING_H

#include <stdbool.h>
#include <stdint.h>

enum { PAIRING_PROOF_STEPS = 64 /* workers hold one version of weights and two of the mixture each */ };

struct pairing {
    bool known;
    uint64_t generation; /* of the other server, worked with; when known */
    uint64_t candidate;  /* read at `step` */
    uint64_t step;
};

void pairing_begin(struct pairing *p, uint64_t other_generation, uint64_t step);
bool pairing_due(const struct pairing *p, uint64_t step);
void pairing_note(struct pairing *p, uint64_t other_generation, uint64_t step);
bool pairing_may_go_back(const struct pairing *p, uint64_t other_generation);

#endif
