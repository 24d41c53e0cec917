/* The core's state and its checks, shared by core.c and the files core_*.c beside it only. */
#ifndef DECANT_SERVER_PROTOTYPE_CORE_STATE_H
#define DECANT_SERVER_PROTOTYPE_CORE_STATE_H

#include "common/reduce.h"
#include "server/prototype/core.h"
#include "server/prototype/stream.h"

struct prototype_core {
    struct run_config config;
    uint64_t config_hash;
    uint64_t generation;
    uint64_t total_steps;          /* T; 0 until a worker tells */
    struct provenance provenance;  /* what the workers tell of images and arithmetic */
    struct mixture *mixture;       /* newest version */
    const struct mixture *initial; /* what version 0 is a copy of, borrowed; NULL: it follows from the seed */
    struct mixture_view *previous; /* the version before; a slot of it may be leased again */
    bool has_previous;
    struct msg snapshot, previous_snapshot; /* their full messages; type 0 until first wanted */
    uint64_t delta_bytes;                   /* published since the newest full message that was */
    struct reduce *reduce;                  /* statistics of step == version, by slot */
    bool out_of_memory;                     /* an addition in the tree failed */
    bool stepped;                           /* `step` holds figures */
    bool stopping;
    uint64_t drain_until_ms; /* when to stop at the latest; 0: not draining */
    bool checkpoint_due;
    uint64_t saved_version; /* newest that was taken for a checkpoint, or came from one; UINT64_MAX: none */
    bool metrics_due;
    struct msg metrics; /* of metrics_due: what was published, without tensors */
    bool rewind_due;
    uint64_t rewind_max; /* of rewind_due: the newest step that will do */
    struct prototype_step step;
    struct prototype_counters counters;
    struct worker_table workers;        /* for the people who watch: the mixture never depends on it */
    uint64_t slots_applied, slots_seen; /* now, and at the last timer */
    uint64_t timer_ms;                  /* of the last timer */
    double stats_per_s;                 /* slots per second */
    bool rated;
    struct stream *stream; /* of run.mode = stream; else NULL */
};

enum prototype_verdict_kind { VERDICT_APPLY, VERDICT_STALE, VERDICT_DUPLICATE, VERDICT_REFUSE };

struct prototype_verdict {
    enum prototype_verdict_kind kind;
    enum reason why;  /* of VERDICT_REFUSE */
    const char *text; /* of VERDICT_REFUSE: what to do about it */
};

/* Embeddings in a slot: both views of its images. In stream mode, in a contribution at most. */
uint32_t prototype_core_slot_rows(const struct prototype_core *c);

/* Pure: they read the core and change nothing. */
struct prototype_verdict prototype_check_envelope(const struct prototype_core *c, const struct msg *m);
struct prototype_verdict prototype_check_total_steps(const struct prototype_core *c, const struct msg *m);
struct prototype_verdict prototype_check_provenance(const struct msg *m);
struct prototype_verdict prototype_check_rewind(const struct prototype_core *c, const struct msg *m);
struct prototype_verdict prototype_check_stats(const struct prototype_core *c, const struct msg *m);
/* In stream mode: may this client be spoken of at all; a contribution. */
struct prototype_verdict prototype_check_client(const struct prototype_core *c, const struct peer *from,
                                                const struct msg *m);
struct prototype_verdict prototype_check_contribution(const struct prototype_core *c, uint64_t now_ms,
                                                      const struct peer *from, const struct msg *m);

#endif
