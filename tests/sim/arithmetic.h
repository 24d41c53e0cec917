/* A cheap stand-in for the encoder's arithmetic: what a slot contributes is a pure function of (seed, t, slot, the
 * bytes of weights_t, the bytes of the mixture version), made by hashing them all. So whatever is wrong with a slot's
 * inputs, with its place, or with how often it counted, shows in the final bytes. */
#ifndef DECANT_TESTS_SIM_ARITHMETIC_H
#define DECANT_TESTS_SIM_ARITHMETIC_H

#include "tests/sim/scenario.h"
#include "worker/session.h"

/* The values of INIT; context is the scenario. */
void arithmetic_initial(void *context, float *params, float *buffers);
/* Part A: fills job->stats when there is an E-step. *carry: what it leaves for part B. 0 or ERR_*. */
int arithmetic_part_a(const struct scenario *s, struct slot_job *job, uint64_t *carry);
/* Part B: fills gradient, new_buffers and metrics of the job. */
int arithmetic_part_b(const struct scenario *s, struct slot_job *job, uint64_t carry);

#endif
