/* What a stream has beside the mixture: the ledger, the contributions that are applied and in no version yet, and
 * when a version or a checkpoint is due. A part of the core; no I/O, no clock.
 *
 *   stream_add(s, &rows, now_ms);                     // a contribution was applied; takes the rows over
 *   if (stream_version_due(s, now_ms)) ... mixture_em_step(m, stream_sum(s), beta); stream_folded(s);
 *
 * A checkpoint is of a moment when nothing is pending, so that the ledger says of the very mixture beside it what is
 * in it. */
#ifndef DECANT_SERVER_PROTOTYPE_STREAM_H
#define DECANT_SERVER_PROTOTYPE_STREAM_H

#include "proto/run_config.h"
#include "proto/stats.h"
#include "server/prototype/ledger.h"

struct stream {
    struct ledger_limits limits;
    uint64_t contributions_max; /* in a version */
    uint64_t version_ms, checkpoint_ms;
    struct ledger *ledger;
    struct stats_rows sum; /* of what is pending, in the order of arrival */
    uint64_t pending;      /* contributions in it */
    uint64_t pending_ms;   /* since when; of pending > 0 */
    uint64_t saved_ms;     /* when the newest checkpoint was taken; 0: none yet */
    bool writing;          /* it is not on disk yet */
    bool pressed;          /* a client has used half of what it may keep: a checkpoint should not wait */
    uint64_t folds;        /* versions made in this life */
    double embeddings;     /* in them */
};

/* Takes the ledger over on success; NULL: an empty one. 0 or ERR_MEMORY. */
int stream_new(const struct run_config *c, struct ledger *ledger, struct stream **out);
void stream_free(struct stream **s);

/* Takes the rows over, also on failure. 0 or ERR_MEMORY, with the sum unfit to go on. */
int stream_add(struct stream *s, struct stats_rows *rows, uint64_t now_ms);
bool stream_version_due(const struct stream *s, uint64_t now_ms);
/* The sum has become a version. */
void stream_folded(struct stream *s);

/* A client holds much that is not durable. */
void stream_press(struct stream *s, const struct ledger_client *client);
/* Whether a checkpoint should be made now of what is new since the newest one. */
bool stream_checkpoint_due(struct stream *s, uint64_t now_ms);
/* Nothing is pending, and the newest checkpoint is on disk: another may be taken. */
bool stream_may_snapshot(const struct stream *s);
/* It is taken; *ledger is its ledger. 0 or ERR_MEMORY with nothing changed. */
int stream_snapshot(struct stream *s, struct ledger **ledger);
/* It is on disk. */
void stream_written(struct stream *s);
/* Embeddings of a version, on average; 0 before the first. */
double stream_embeddings(const struct stream *s);

#endif
