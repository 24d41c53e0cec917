/* The parameter server as a state machine without I/O: weights, optimiser, the step counter and the leases. Messages
 * and time go in, messages come out in an outbox; checkpoints and reports that are due are picked up after each
 * call. One thread.
 *
 *   parameter_core_on_message(core, now, &peer, &msg, &out);   // msg's tensors may be taken out of it
 *   while (out has items) send them;
 *   if (parameter_core_take_checkpoint(core, &state)) write it somewhere, encoder_state_fini(&state);
 *   if (parameter_core_take_report(core, &report)) append it to a file;
 *   if (parameter_core_take_rewind(core, &step_max)) load a checkpoint, parameter_core_rewind(core, ...);
 *   if (parameter_core_awaits_durable(core) and it is) parameter_core_on_durable(core, now, &out);
 *   if (parameter_core_stopped(core)) linger, then leave;
 *
 * A step: grant leases for its slots -> add gradients as they arrive -> with the last one update, publish WEIGHTS,
 * go on. What a refused message asked for does not happen at all; it is counted and answered with ERROR.
 *
 * On top of proto/msg.h:
 *   - HELLO may carry a generation of an earlier process of ours: this is how a worker learns the new one.
 *     Everywhere else a generation that is neither 0 nor ours is refused.
 *   - HELLO carries the scalar total_steps (T) unless run.steps fixes it. No lease is granted before T is known.
 *   - HELLO may carry fingerprints of the worker's images and arithmetic; others than the run's are refused
 *     (proto/provenance.h).
 *   - The tensors of a GRADIENT for a subtree of slots are sums over these slots, and so are its metrics.
 *   - A LEASE_REQUEST with want = 0 withdraws the worker's request.
 *   - A PING with code = 1 is a worker's goodbye: its leases are free at once.
 *   - REWIND names our generation and the step at which the sender saw the prototype server stand. In a healthy pair
 *     that step is never below ours (a gradient is sent only after its statistics were applied). If it is,
 *     statistics are lost and the run goes back to a checkpoint that both servers have.
 *   - GRADIENT and a worker's PING may carry the scalar lineage: the prototype server's generation, which grows
 *     whenever that server is restarted or goes back. When a larger one is heard, what the current step has so far
 *     is dropped and leased again; a GRADIENT of a smaller one is refused as wrong_generation.
 *   - A worker whose messages come from a new routing id has reconnected: leases sent to the old one may be lost, so
 *     they expire at once. */
#ifndef DECANT_SERVER_PARAMETER_CORE_H
#define DECANT_SERVER_PARAMETER_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/msg.h"
#include "proto/run_config.h"
#include "server/parameter/initial_weights.h"
#include "server/parameter/step_report.h"
#include "server/parameter/weights_file.h"

enum {
    PARAMETER_TIMER_MS = 100,              /* on_timer is called about this often */
    PARAMETER_DRAIN_MS = 20000,            /* a drain waits this long for the current step */
    PARAMETER_ABSENCE_MS = 30000,          /* between two warnings that no worker is there */
    PARAMETER_TOTAL_STEPS_MAX = 1000000000 /* as run.steps allows */
};

struct parameter_core;

/* config is copied. generation: of this process, > 0. */
int parameter_core_new(const struct run_config *config, uint64_t generation, struct parameter_core **out);
void parameter_core_free(struct parameter_core **c);
/* The fingerprint of this process's arithmetic, for the checkpoints; before resuming. Without it they do not say. */
void parameter_core_set_numerics(struct parameter_core *c, uint64_t own);
/* Weights that take the place of those in the first worker's INIT, as far as they fit (encoder.init): borrowed, for
 * as long as the core lives; before any message. When nothing fits, the core fails with ERR_CONFIG and the log says
 * why. */
void parameter_core_set_initial(struct parameter_core *c, const struct initial_weights *initial);
/* Continues from a checkpoint; before any message. Takes over the state (also on failure). 0 or ERR_MEMORY. */
int parameter_core_resume(struct parameter_core *c, struct encoder_state *state);

/* 0; ERR_MEMORY, or ERR_CONFIG for initial weights that fit nowhere: then the core must not be used any further. now:
 * milliseconds of a monotonic clock. */
int parameter_core_on_message(struct parameter_core *c, uint64_t now, const struct peer *from, struct msg *m,
                              struct outbox *out);
int parameter_core_on_timer(struct parameter_core *c, uint64_t now, struct outbox *out);
/* Bytes that msg_decode refused; m carries what could be read. */
int parameter_core_on_undecodable(struct parameter_core *c, const struct peer *from, const struct msg *m,
                                  enum reason why, const char *detail, struct outbox *out);
/* An outgoing message that the transport would not take. */
void parameter_core_on_undelivered(struct parameter_core *c, const struct outbox_item *item);

/* Finishes the current step if a worker is there to do so, then stops; a checkpoint is due then. */
int parameter_core_drain(struct parameter_core *c, uint64_t now, struct outbox *out);
/* Stops now: a partial step is dropped. A checkpoint is due. */
int parameter_core_stop(struct parameter_core *c, uint64_t now, struct outbox *out);

/* A worker has shown that the prototype server stands at step_max, behind this one: what it held since its newest
 * checkpoint is lost. True when the caller must go back, in this turn, to the newest checkpoint that both servers have
 * at or below step_max, and say so with parameter_core_rewind. */
bool parameter_core_take_rewind(struct parameter_core *c, uint64_t *step_max);
/* From now on the core is what a process with this generation, just resumed from `state`, would be; NULL: one that
 * found no checkpoint. Workers stay known. Takes over the state (also on failure). 0 or ERR_MEMORY. */
int parameter_core_rewind(struct parameter_core *c, uint64_t now, uint64_t generation, struct encoder_state *state,
                          struct outbox *out);
/* Lineages that workers name are believed up to `newest`, which the caller knows from the run's directory; without this
 * call all are. A PING that names a larger one is answered, a GRADIENT refused as bad_value. */
void parameter_core_bound_lineage(struct parameter_core *c, uint64_t newest);
/* m names one above the bound: time to look whether it has risen. */
bool parameter_core_doubts_lineage(const struct parameter_core *c, const struct msg *m);
/* Step T is reached and its checkpoint is wanted, but not known to be on disk whole: the run may still have to go back.
 * Workers stay until parameter_core_on_durable, which the caller calls when every file of step T is there. */
bool parameter_core_awaits_durable(const struct parameter_core *c);
int parameter_core_on_durable(struct parameter_core *c, uint64_t now, struct outbox *out);

/* A snapshot that should be written, at most one per call of the above. The caller finishes it. */
bool parameter_core_take_checkpoint(struct parameter_core *c, struct encoder_state *out);
bool parameter_core_take_report(struct parameter_core *c, struct step_report *out);

bool parameter_core_stopped(const struct parameter_core *c);
bool parameter_core_finished(const struct parameter_core *c); /* stopped because step T is reached */
uint64_t parameter_core_step(const struct parameter_core *c);
uint64_t parameter_core_total_steps(const struct parameter_core *c); /* 0 = not known yet */
size_t parameter_core_workers(const struct parameter_core *c);       /* heard of within the last 10 s */
const struct step_report_counters *parameter_core_counters(const struct parameter_core *c);
const struct step_report *parameter_core_newest_report(const struct parameter_core *c); /* step 0: none yet */

#endif
