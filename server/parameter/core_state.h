/* Inside the core: its state, one turn of it, and what its files call of each other. core.c has the life cycle and
 * the calls from outside, core_messages.c admits and handles messages, core_weights.c takes weights over,
 * core_step.c sends, grants and completes steps. */
#ifndef DECANT_SERVER_PARAMETER_CORE_STATE_H
#define DECANT_SERVER_PARAMETER_CORE_STATE_H

#include "server/parameter/core.h"
#include "server/parameter/gradients.h"
#include "server/parameter/leases.h"
#include "server/parameter/schedule.h"
#include "server/shell/worker_table.h"

enum phase {
    PHASE_RUNNING,
    PHASE_DRAINING, /* the current step is the last of this process */
    PHASE_COMPLETE, /* step T is reached; its checkpoint is not known to be on disk whole */
    PHASE_STOPPED
};

struct parameter_core {
    struct run_config config; /* a copy */
    uint64_t hash;            /* of the configuration */
    uint64_t generation;
    struct schedule schedule;     /* steps (T) is 0 until it is known */
    struct provenance provenance; /* what the workers tell of images and arithmetic */
    uint64_t step;                /* t: updates made so far */
    bool ready;                   /* weights and gradients are there; false again after going back to the start */
    const struct initial_weights *initial; /* in the place of the workers'; NULL: theirs */
    struct weights weights;
    struct gradients *gradients;
    struct leases *leases;
    struct worker_table workers;
    struct slot_time slot_time; /* over all workers, for one that is new */
    enum phase phase;
    enum stop_code stop_code; /* of PHASE_STOPPED */
    uint64_t drain_until;     /* of PHASE_DRAINING */
    uint64_t lineage;         /* the newest that a worker has named; 0 = none */
    uint64_t lineage_max;     /* none is newer than this */
    struct step_report_counters counters;
    struct step_report report; /* the newest */
    bool report_due, checkpoint_due;
    bool rewind_due;
    uint64_t rewind_max;    /* of rewind_due: the newest step that will do */
    uint64_t workerless_ms; /* since when there is no worker, for the log; 0 = there is one, or it was just said */
    uint64_t window_ms, window_step; /* start of the time that the next report covers; 0 before the first lease */
    int failed; /* ERR_MEMORY once memory ran out in the middle of a turn, ERR_CONFIG: see set_initial */
};

/* One call from outside: where it came from and where answers go. */
struct turn {
    struct parameter_core *core;
    uint64_t now;
    const struct peer *from;
    struct msg *m;
    struct outbox *out;
    struct worker *worker; /* who sent m, once it was admitted; NULL when m names none */
    struct error detail;   /* of a refusal; text may be empty */
};

/* ---- core_weights.c ---- */

/* Takes over manifest and vectors (also on failure); the core is ready then. 0 or ERR_MEMORY. */
int core_adopt_weights(struct parameter_core *c, struct manifest *manifest, struct weight_vectors *vectors);

/* ---- core_messages.c ---- */

/* Admits and handles t->m; 0, or why it is refused. */
enum reason core_handle(struct turn *t);
/* What m names, 0 when it names none. */
uint64_t core_lineage(const struct msg *m);

/* ---- core_step.c ---- */

/* What the step has so far is void: all its slots are leased again. */
void core_redo_step(struct parameter_core *c);
/* An answer-to-be with everything that all our messages carry. */
struct msg core_begin(const struct parameter_core *c, enum msg_type type);
void core_note(struct parameter_core *c, int rc); /* remembers a failure to the end of the turn */
void core_reply(struct turn *t, struct msg *m);   /* to the sender of t->m; takes m over */
void core_acknowledge(struct turn *t, enum ack_code code);
/* Counts, logs and answers. An ERROR is never answered, lest two servers talk for ever. */
void core_refuse(struct parameter_core *c, const struct peer *from, const struct msg *m, enum reason why,
                 const char *detail, struct outbox *out);
struct msg core_weights_message(struct parameter_core *c); /* the newest weights; shares the vectors */
void core_publish_weights(struct turn *t);                 /* the same to all */
/* Expires leases, then grants what can be granted; once stopped every request is answered with STOP. */
void core_answer_requests(struct turn *t);
/* The worker's request and leases end. event: "silent" or "goodbye", for the log. */
void core_drop_worker(struct parameter_core *c, const struct worker *w, const char *event);
void core_complete_step(struct turn *t);             /* every slot is in */
void core_stop(struct turn *t, enum stop_code code); /* drops a partial step; a checkpoint is due */

#endif
