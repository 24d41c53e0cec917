/* The prototype core as server/shell/incarnation.h drives it, in the product and in the simulator alike: the two differ
 * only in where checkpoints come from and go to. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_INCARNATION_H
#define DECANT_SERVER_PROTOTYPE_CORE_INCARNATION_H

#include "server/prototype/core.h"
#include "server/shell/incarnation.h"

struct prototype_incarnation {
    const struct run_config *config;
    struct prototype_core *core; /* created by incarnation_start; the owner frees it */
    struct outbox *out;
    uint64_t numerics; /* fingerprint of this process's arithmetic; 0: not known */
    /* A new mixture from the newest step at or below step_max whose files are all sound, and what it says beside;
     * ERR_NOT_FOUND when there is none. */
    int (*find)(void *arg, uint64_t step_max, struct mixture **out, struct mixture_facts *facts, struct error *e);
    /* A run that begins, again perhaps: what it begins with (mixture.init), which stays the callee's, and its
     * fingerprint; NULL and 0 for the seed's. begin NULL: always the seed's. */
    int (*begin)(void *arg, const struct mixture **out, uint64_t *fingerprint, struct error *e);
    /* Takes the snapshot and the facts' ledger over, to be written. */
    void (*submit)(void *arg, struct mixture *snapshot, const struct mixture_facts *facts);
    void *arg;
};

/* Its core_arg is a struct prototype_incarnation. Workers hear of the end from the parameter server, so this one need
 * not stay for them: its patience is all 0. */
extern const struct incarnation_core prototype_incarnation_core;

#endif
