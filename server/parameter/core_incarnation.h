/* The parameter core as server/shell/incarnation.h drives it, in the product and in the simulator alike: the two differ
 * only in where checkpoints come from and go to. */
#ifndef DECANT_SERVER_PARAMETER_CORE_INCARNATION_H
#define DECANT_SERVER_PARAMETER_CORE_INCARNATION_H

#include "server/parameter/core.h"
#include "server/shell/incarnation.h"

struct parameter_incarnation {
    const struct run_config *config;
    struct parameter_core *core; /* created by incarnation_start; the owner frees it */
    struct outbox *out;
    uint64_t numerics; /* fingerprint of this process's arithmetic; 0: not known */
    /* The newest step at or below step_max whose files are all sound; ERR_NOT_FOUND when there is none. */
    int (*find)(void *arg, uint64_t step_max, struct encoder_state *out, struct error *e);
    void (*submit)(void *arg, struct encoder_state *s); /* takes the state over, to be written */
    /* A run that begins, again perhaps: gives the core what it begins with (parameter_core_set_initial). NULL:
     * nothing. */
    int (*begin)(void *arg, struct parameter_core *core, struct error *e);
    void *arg;
};

/* Its core_arg is a struct parameter_incarnation. */
extern const struct incarnation_core parameter_incarnation_core;
/* So that workers hear of the end: see struct incarnation_patience. */
extern const struct incarnation_patience parameter_incarnation_patience;

#endif
