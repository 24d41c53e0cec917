/* The prototype server as a state machine without I/O: messages and time in, messages out. See docs/design/0001.
 *
 *   prototype_core_new(&options, &core, &e);
 *   prototype_core_on_message(core, now_ms, &peer, &msg, &outbox);   // then send the outbox
 *   prototype_core_on_timer(core, now_ms, &outbox);                  // about once a second
 *
 * In stream mode (run.mode) a contribution has no step: contributions of any client are applied as they come, and
 * some of them make a version (stream.h, ledger.h, docs/PROTOCOL.md section 12).
 *
 * Accepts HELLO, STATS, MIXTURE_GET, PING and REWIND; anything else is refused as wrong_door: this is the wall. A
 * refused message changes nothing but its counter. One message completes at most one step, so whoever drives the core
 * sees every version by looking at prototype_core_mixture() after each message. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_H
#define DECANT_SERVER_PROTOTYPE_CORE_H

#include <stdbool.h>
#include "server/prototype/diagnostics.h"
#include "server/prototype/mixture.h"
#include "server/prototype/mixture_file.h"
#include "server/shell/worker_table.h"

enum {
    PROTOTYPE_DRAIN_MS =
        8000, /* containers are killed 10 s after they were told to end, unless somebody says otherwise */
    MIXTURE_FULL_EVERY =
        64, /* versions between full publications, for subscribers that joined late; more when the deltas
                                 in between do not come to as many bytes as a full one: who has a gap may ask */
    ACTIVE_EMBEDDINGS = 50000 /* embeddings over which a component counts as active: about an epoch of small sets */
};

struct prototype_counters {
    uint64_t applied, duplicates, stale; /* STATS by acknowledgement, messages */
    uint64_t held_back;                  /* stream mode: contributions refused for want of credit, or of room */
    uint64_t refused[REASON_END];        /* by reason */
    uint64_t snapshots;                  /* full mixtures sent on request */
    uint64_t rewinds;                    /* times that it went back because the parameter server had */
};

/* Figures of the newest step, in the units of the metrics. */
struct prototype_step {
    double loglik;  /* mean per embedding, at beta = 1 */
    double dropped; /* share of the responsibilities' mass that was dropped */
    double count;   /* embeddings */
};

struct prototype_core_options {
    const struct run_config *config;
    uint64_t generation;
    struct mixture *resumed;       /* taken over on success; NULL starts version 0: */
    const struct mixture *initial; /* a copy of this, borrowed while the core lives, or NULL: from the seed */
    struct mixture_facts facts;    /* of the resumed checkpoint; its ledger is taken over on success */
};

struct prototype_core;

int prototype_core_new(const struct prototype_core_options *o, struct prototype_core **out, struct error *e);
/* What going back to the start leads to from now on, see struct prototype_core_options, and its fingerprint. */
void prototype_core_set_initial(struct prototype_core *c, const struct mixture *initial, uint64_t fingerprint);
void prototype_core_free(struct prototype_core **out);

/* Replies and publications are appended to out. 0; ERR_MEMORY leaves the core unfit to go on: the process should end
 * and resume from its checkpoint. */
int prototype_core_on_message(struct prototype_core *c, uint64_t now_ms, const struct peer *from, const struct msg *m,
                              struct outbox *out);
int prototype_core_on_timer(struct prototype_core *c, uint64_t now_ms, struct outbox *out);
/* Refuses a message that could not be decoded; m carries what could be read of it. */
int prototype_core_refuse(struct prototype_core *c, const struct peer *from, const struct msg *m, enum reason why,
                          const char *text, struct outbox *out);
/* The METRICS message that the newest call above or below has published, once, for those who keep it: a file, a
 * mirror. It has no tensors and belongs to nobody. A call publishes at most one; one that is not taken gives way to
 * the next. */
bool prototype_core_take_metrics(struct prototype_core *c, struct msg *out);
/* A finished pass of diagnostics is published on the topic "metrics". */
int prototype_core_on_diagnostics(struct prototype_core *c, const struct diagnostics *d, struct outbox *out);
/* A worker has shown that the parameter server stands at step_max, more than a step behind this one: it has gone back
 * to a checkpoint. True when the caller must go back too, in this turn, to the newest checkpoint that both servers
 * have at or below step_max, and say so with prototype_core_rewind. */
bool prototype_core_take_rewind(struct prototype_core *c, uint64_t *step_max);
/* From now on the core is what a process with this generation, just resumed from `resumed`, would be; NULL: one that
 * starts version 0 from the seed. Takes the mixture over on success. 0 or ERR_MEMORY. */
int prototype_core_rewind(struct prototype_core *c, uint64_t generation, struct mixture *resumed, struct outbox *out);
/* Stops when the workers have left, or after PROTOTYPE_DRAIN_MS: while the parameter server finishes its step, as it
 * does when both are told to end at once, their statistics of it are still taken, so that both servers end at one
 * step. */
void prototype_core_drain(struct prototype_core *c, uint64_t now_ms);
/* From now on statistics are refused (stopping); everything else is answered. The newest version is due for a
 * checkpoint unless it was taken for one already; version 0 follows from the seed. What is pending in a stream
 * becomes a version. */
void prototype_core_stop(struct prototype_core *c);
bool prototype_core_stopped(const struct prototype_core *c);
/* A snapshot that should be written: every run.checkpoint_every versions, and the last one. The caller frees it, and
 * the ledger, which is NULL but in stream mode. False when none is due; also, with a log line, when there is no
 * memory for it: it stays due. In stream mode one at a time is written. */
bool prototype_core_take_checkpoint(struct prototype_core *c, struct mixture **snapshot, struct ledger **ledger);
/* Stream mode: the snapshot that was taken last is on disk. Tells every client that has something in it. */
int prototype_core_on_written(struct prototype_core *c, struct outbox *out);

const struct mixture *prototype_core_mixture(const struct prototype_core *c);
const struct prototype_counters *prototype_core_counters(const struct prototype_core *c);
const struct prototype_step *prototype_core_step(const struct prototype_core *c);
const struct worker_table *prototype_core_workers(const struct prototype_core *c);
uint64_t prototype_core_total_steps(const struct prototype_core *c); /* 0 = not known yet */
const struct provenance *prototype_core_provenance(const struct prototype_core *c);
uint64_t prototype_core_config(const struct prototype_core *c); /* run_config_hash */
uint64_t prototype_core_generation(const struct prototype_core *c);
uint32_t prototype_core_active_window(const struct prototype_core *c); /* versions */
double prototype_core_stats_per_s(const struct prototype_core *c);
const struct ledger *prototype_core_ledger(const struct prototype_core *c); /* NULL but in stream mode */

#endif
