/* What must be true in every run, checked as it goes on:
 *   - every state that is reached (weights, optimiser, buffers; every array of the mixture) has the very bytes that the
 *     undisturbed run of the same configuration has at that step;
 *   - a contribution is applied once in a lineage: going back to step c forgets those of steps >= c;
 *   - a server answers whatever asks for an answer, once, and refuses nothing that only a broken sender would send;
 *   - before any server has crashed, t <= v <= t + 1, and nobody goes back;
 *   - a server resumes from a step that both have whole. */
#ifndef DECANT_TESTS_SIM_CHECKER_H
#define DECANT_TESTS_SIM_CHECKER_H

#include "tests/sim/disk.h"

struct cluster;
struct event;

enum { CHECKER_VECTORS = 15 };

/* Hashes of the vectors of a state. */
struct state_hash {
    bool known;
    uint64_t vectors[CHECKER_VECTORS];
};

/* The states of the undisturbed run. */
struct reference {
    bool known;
    struct state_hash states[SERVERS][DISK_STEPS];
};

struct checker {
    uint64_t applied[SERVERS][DISK_STEPS]; /* bit s: slot s of that step */
    uint64_t lineage;                      /* that the parameter server's process has heard of */
    uint32_t crashes, rewinds;             /* of servers */
    uint64_t rewinds_refused;              /* because there was no reason to go back */
    uint64_t pairs_stuck;                  /* times that a pair came apart without a restart, and went back */
    uint64_t duplicates;                   /* contributions acknowledged as such */
    uint64_t reseeded;                     /* components, in the newest mixture */
};

void checker_encoder(struct cluster *c, const struct encoder_state *s);
void checker_mixture(struct cluster *c, const struct mixture *m);
/* What the server said to m, which came with the event: all of its outbox. */
void checker_answer(struct cluster *c, enum server server, const struct msg *m, const struct event *e,
                    const struct outbox *out);
/* The server stands at `step` again, from disk, or from nothing (step 0). */
void checker_resumed(struct cluster *c, enum server server, bool from_disk, uint64_t step);
/* It leaves of its own accord: after step T, or told to. What it had is on disk. */
void checker_left(struct cluster *c, enum server server, bool settled);
void checker_rewind(struct cluster *c, enum server server); /* it was told to go back */
void checker_pair(struct cluster *c);

#endif
