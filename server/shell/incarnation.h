/* The life of a server as a policy without I/O: how it starts, when it goes back to a checkpoint, when a run is over,
 * and when the process may leave. Both servers and the simulator drive their cores through it, so that what the
 * simulator proves is what runs. docs/design/0002-failures.md has the reasons.
 *
 *   incarnation_start(&in, &options, resume, &e);               // creates the core
 *   incarnation_before_message(&in, &msg);
 *   rc = core_on_message(core, ...);                            // or on_timer; fills the outbox
 *   incarnation_end_turn(&in, now_ms, rc);                      // after every message
 *   incarnation_on_timer(&in, now_ms, rc);                      // after the core's timer
 *   incarnation_on_signal(&in, now_ms);                         // SIGTERM, SIGINT
 *   incarnation_on_written(&in, now_ms, &result);               // a checkpoint's write has ended
 *   if (in.leaving) close everything; in.error says why, if it is a failure
 *
 * An incarnation of a server is the time from a start, or from going back, to the next one; its number is the
 * generation in the run's directory. */
#ifndef DECANT_SERVER_SHELL_INCARNATION_H
#define DECANT_SERVER_SHELL_INCARNATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/error.h"
#include "proto/msg.h"
#include "server/shell/pairing.h"

/* A core as the policy sees it. Each server has one adapter (core_incarnation.h in its room), which the simulator links
 * as well. None of the calls may call back into the incarnation. */
struct incarnation_core {
    /* From the newest sound checkpoint if resume, else, or when there is none, from the start. */
    int (*create)(void *core, uint64_t generation, bool resume, struct error *e);
    uint64_t (*step)(void *core);        /* the parameter server's step, or the mixture's version */
    uint64_t (*total_steps)(void *core); /* T; 0 while it is not known */
    size_t (*workers)(void *core);       /* heard of lately */
    bool (*stopped)(void *core);         /* it accepts no contributions any more */
    bool (*at_end)(void *core);          /* step T is reached and settle() has not been called */
    /* A worker has asked to go back to at most *step_max since the last call. */
    bool (*take_rewind)(void *core, uint64_t *step_max);
    /* Takes up the newest checkpoint at or below step_max of which all files are sound, as a process of that generation
     * would have done at its start; with none, the state of step 0. */
    int (*load)(void *core, uint64_t now, uint64_t generation, uint64_t step_max, struct error *e);
    int (*drain)(void *core, uint64_t now);  /* finish what is begun, then stop; a checkpoint is due then */
    int (*stop)(void *core, uint64_t now);   /* stop now; a checkpoint is due */
    int (*settle)(void *core, uint64_t now); /* step T is whole on disk: tell the workers, and stop */
    void (*checkpoint)(void *core);          /* hands the snapshot to the writer, if one is due */
    /* Of a core whose workers name lineages; else both NULL. The message names one above the bound. */
    bool (*doubts_lineage)(void *core, const struct msg *m);
    void (*bound_lineage)(void *core, uint64_t newest); /* the other server's generation on disk: believed up to it */
};

#define GENERATION_UNKNOWN UINT64_MAX

/* The run's directory and the way out: the shell's, or the simulator's. */
struct incarnation_world {
    /* Durably, and only if the directory is still ours (ERR_STATE otherwise). */
    int (*raise_generation)(void *world, uint64_t *generation, struct error *e);
    uint64_t (*other_generation)(void *world); /* 0 before its first start; GENERATION_UNKNOWN when it cannot be read */
    bool (*step_complete)(void *world, uint64_t step); /* all files of the step are there */
    bool (*writing)(void *world);                      /* a snapshot is being written, or waits for it */
    void (*send)(void *world);                         /* empties the outbox */
};

/* How long a server stays after its core has stopped, so that workers hear of it. All 0: not at all. */
struct incarnation_patience {
    uint64_t linger_ms;   /* after a drain */
    uint64_t farewell_ms; /* after step T, for workers to leave first */
    uint64_t visit_ms;    /* started when the run was over already: for the first worker to come and hear it */
};

struct incarnation_options {
    enum server server; /* who we are, for the log */
    const struct incarnation_core *core;
    void *core_arg;
    const struct incarnation_world *world;
    void *world_arg;
    struct incarnation_patience patience;
};

struct incarnation {
    struct incarnation_options o;
    uint64_t generation;
    struct pairing pairing;
    uint64_t rewinds_refused;
    uint64_t pairs_stuck; /* times that it went back because nothing moved */
    bool directory_ours;  /* its checkpoints are of this run: it was resumed, or has gone back, from them */
    bool was_complete;    /* began at step T: workers may come that do not know that the run is over */
    bool end_unsound;     /* step T is there, but could not be loaded */
    bool settled;         /* step T is whole on disk, and the core knows */
    unsigned signals;     /* so far */
    uint64_t waiting_ms;  /* for the other file of step T: since when, or when that was last said; 0 = not */
    uint64_t stopped_ms;  /* when the core stopped; 0 before */
    uint64_t visited_ms;  /* of was_complete: when a worker was last here; 0 = none yet */
    bool leaving;         /* the process should close everything and end */
    struct error error;   /* why, when it is a failure: the first cause, never overwritten */
};

enum {
    INCARNATION_WAITING_MS = 10000 /* between two warnings that the other server's file of step T is missing */
};

/* Raises the generation and creates the core. resume: look for a checkpoint in the run's directory. What the options
 * point to outlives the incarnation. 0 or ERR_*. */
int incarnation_start(struct incarnation *in, const struct incarnation_options *o, bool resume, struct error *e);
/* Before the core sees a message of which it might doubt what was true a moment ago. */
void incarnation_before_message(struct incarnation *in, const struct msg *m);

/* Ends a turn in which the core was given a message. rc: what the core said; a failure ends the process, whatever else
 * is due. */
void incarnation_end_turn(struct incarnation *in, uint64_t now, int rc);
/* The same after the core's timer; also looks whether step T has become whole without us. */
void incarnation_on_timer(struct incarnation *in, uint64_t now, int rc);
/* The first signal drains, the second stops at once. */
void incarnation_on_signal(struct incarnation *in, uint64_t now);
/* A write has ended. ERR_STATE: the directory is another's by now, which is the end of this process. */
void incarnation_on_written(struct incarnation *in, uint64_t now, const struct error *result);
/* The run cannot go on. The first cause stays. */
void incarnation_fail(struct incarnation *in, int code, const char *text);
/* Why /healthz should say that something is missing, or NULL. */
const char *incarnation_complaint(const struct incarnation *in);

/* ---- the parts of a turn, in their order; apart so that a test can take one out ---- */

void incarnation_note_pair(struct incarnation *in, uint64_t now);
void incarnation_mind_rewind(struct incarnation *in, uint64_t now);
void incarnation_jump_to_end(struct incarnation *in, uint64_t now);
void incarnation_settle(struct incarnation *in, uint64_t now);
void incarnation_leave(struct incarnation *in, uint64_t now);
/* The newest checkpoint at or below step_max into the core, under a new generation. 0 or ERR_*. */
int incarnation_go_back(struct incarnation *in, uint64_t now, uint64_t step_max, struct error *e);

#endif
