/* Does a server have any reason to go back? A worker asks for it (REWIND), and a worker can be wrong or worse. The
 * other server can only have lost something if it was started or went back itself, and its generation says so. A
 * server therefore remembers the generation that it is known to have worked with, and believes a REWIND when the
 * other's has changed since.
 *
 * Known to have worked with: it was read PAIRING_PROOF_STEPS steps ago or before. The two may have resumed from
 * different steps, and what workers still hold of earlier incarnations carries a server a few steps further, but
 * never that many. Before a generation is known in this way a REWIND is believed, but PAIRING_TRUST times at most
 * without steps in between, so that nobody can hold a run where it is by asking again and again.
 *
 * One fault leaves no trace in any generation: a client that sent a gradient without its statistics. Then this server
 * stands still, a step ahead of what the mixture can ever reach, and workers keep asking. So a REWIND is also
 * believed when it has been asked for during all of a patience in which the own step did not move. The patience is
 * much longer than a step, and doubles each time.
 *
 *   pairing_init(&p);                                      // once in the life of a process
 *   pairing_begin(&p, other_generation, step);             // after start, and after each going back
 *   pairing_moved(&p, step, now_ms);                       // whenever the own step may have moved
 *   if (pairing_due(&p, step))
 *       pairing_note(&p, other_generation_now, step);
 *   switch (pairing_judge(&p, other_generation_now, now))  // a REWIND was asked for */
#ifndef DECANT_SERVER_SHELL_PAIRING_H
#define DECANT_SERVER_SHELL_PAIRING_H

#include <stdbool.h>
#include <stdint.h>

enum {
    PAIRING_PROOF_STEPS = 64,         /* workers hold one version of weights and two of the mixture each */
    PAIRING_TRUST = 3,                /* a pair that crashes around its start comes together within two rounds */
    PAIRING_PATIENCE_MS = 5000,       /* at least; a healthy pair repairs itself within two seconds */
    PAIRING_PATIENCE_MAX_MS = 600000, /* the end of doubling */
    PAIRING_PATIENCE_STEPS = 4        /* and at least as long as so many of the slowest recent steps */
};

struct pairing {
    bool known;
    uint64_t generation; /* of the other server, worked with; when known */
    uint64_t candidate;  /* read at `step` */
    uint64_t step;
    uint32_t trust;      /* how many REWINDs are still believed before anything is known */
    uint64_t own_step;   /* as of the newest pairing_moved */
    uint64_t moved_ms;   /* when it moved; 0: not seen yet */
    uint64_t step_ms;    /* the slowest recent step; older ones fade */
    uint64_t asked_ms;   /* when a REWIND was first not believed since the step moved; 0: none was */
    uint32_t impatience; /* how often the patience has doubled */
};

enum pairing_verdict {
    PAIRING_REFUSE,   /* there is no reason to go back */
    PAIRING_GO_BACK,  /* to a checkpoint at or below the step that was named */
    PAIRING_GO_NEWEST /* apart for no known reason: to the newest checkpoint that both have */
};

void pairing_init(struct pairing *p);
void pairing_begin(struct pairing *p, uint64_t other_generation, uint64_t step);
void pairing_moved(struct pairing *p, uint64_t step, uint64_t now);
bool pairing_due(const struct pairing *p, uint64_t step);
void pairing_note(struct pairing *p, uint64_t other_generation, uint64_t step);
enum pairing_verdict pairing_judge(struct pairing *p, uint64_t other_generation, uint64_t now);

#endif
