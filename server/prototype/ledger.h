/* Who has contributed what to a stream: for each client the number of its contributions that count, and of those that
 * are on disk. It is a part of the checkpoint, so that mixture and ledger are always of the same moment: a
 * contribution is in both or in neither. No I/O, no clock. docs/PROTOCOL.md, section 12, is the client's view;
 * docs/design/0008 has the reasons.
 *
 *   uint64_t name = ledger_name(l, generation);              // HELLO
 *   switch (ledger_judge(l, id, seq, limits)) ...            // STATS
 *   client = ledger_apply(l, id, seq, &peer, now_ms);        // its statistics are in the sum
 *   ledger_snapshot(l);  ledger_written(l);                  // a checkpoint is taken, and on disk
 *
 * Names are given by us and rise for ever, over restarts too, because the server's generation is their upper half. So
 * a ledger of bounded size can forget: it keeps the largest name that it forgot, and a name that it does not know and
 * that is not above that one is refused for good. */
#ifndef DECANT_SERVER_PROTOTYPE_LEDGER_H
#define DECANT_SERVER_PROTOTYPE_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/msg.h"

enum {
    LEDGER_CLIENTS_MAX = 1024,   /* processes of one training loop; a checkpoint has 32 bytes for each */
    LEDGER_SILENCE_MS = 600000,  /* a client may be frozen, or cut off, for so long without being forgotten */
    LEDGER_GENERATION_SHIFT = 32 /* of a name */
};

/* With keys a name belongs to a key: the same one under another key is another client. */
struct ledger_id {
    uint64_t name;
    uint64_t owner; /* struct peer's; 0 without keys */
};

struct ledger_client {
    struct ledger_id id;
    uint64_t applied;   /* contributions 1..applied count */
    uint64_t durable;   /* 1..durable are in a checkpoint on disk; <= applied */
    uint64_t snapshot;  /* 1..snapshot are in the checkpoint that is being written */
    bool left;          /* it has said goodbye */
    uint64_t seen_ms;   /* its last message; 0: none in this life */
    struct peer peer;   /* where that came from; size 0: none in this life */
    uint64_t announced; /* of durable: it was told */
};

struct ledger {
    uint64_t names;         /* given in this life; not in the checkpoint */
    uint64_t began_ms;      /* this life; 0: not yet. Who has not been heard since is silent since then */
    uint64_t forgotten;     /* the largest name that was forgotten */
    uint64_t contributions; /* applied, of all clients, since the start of the run */
    uint64_t lost;          /* that clients say were durable, and are not: the newest checkpoint was damaged */
    uint32_t count;
    struct ledger_client clients[LEDGER_CLIENTS_MAX]; /* the first `count`, in the order of their first contribution */
};

struct ledger_limits {
    uint64_t window; /* contributions of a client on their way */
    uint64_t keep;   /* applied and not durable */
};

enum ledger_verdict {
    LEDGER_APPLY,
    LEDGER_DUPLICATE, /* it counts already */
    LEDGER_GAP,       /* one before it is missing */
    LEDGER_NO_CREDIT, /* too many are not durable */
    LEDGER_EXPIRED,   /* it may have been forgotten */
    LEDGER_UNKNOWN,   /* a name that was never given */
    LEDGER_FULL       /* nobody may be forgotten to make room */
};

int ledger_new(struct ledger **out); /* empty; 0 or ERR_MEMORY */
int ledger_clone(const struct ledger *l, struct ledger **out);
void ledger_free(struct ledger **l);

/* To be called with every message: notes when the first one came. */
void ledger_begin(struct ledger *l, uint64_t now_ms);

/* A name that nobody has; 0 when this life has none left. */
uint64_t ledger_name(struct ledger *l, uint64_t generation);
/* NULL when nothing of it has counted. */
struct ledger_client *ledger_find(struct ledger *l, struct ledger_id id);
/* May this name be spoken of: LEDGER_APPLY, LEDGER_EXPIRED or LEDGER_UNKNOWN. generation: ours. */
enum ledger_verdict ledger_judge_name(struct ledger *l, struct ledger_id id, uint64_t generation);
/* Contribution `seq` >= 1 of a client whose name may be spoken of. Changes nothing. */
enum ledger_verdict ledger_judge(struct ledger *l, struct ledger_id id, uint64_t seq,
                                 const struct ledger_limits *limits, uint64_t now_ms);
/* Counts it, after LEDGER_APPLY. May forget another client to make room for a new one. */
struct ledger_client *ledger_apply(struct ledger *l, struct ledger_id id, const struct peer *from, uint64_t now_ms);
/* The client keeps only what comes after `seq`. What is missing up to there cannot be had any more and is passed over,
 * so that it can go on; how many these are. LEDGER_FULL leaves a client that is not known as it is. */
uint64_t ledger_pass_over(struct ledger *l, struct ledger_id id, uint64_t seq, const struct peer *from,
                          uint64_t now_ms);
/* A message of it, which may be its goodbye. */
void ledger_note(struct ledger_client *client, const struct peer *from, bool goodbye, uint64_t now_ms);
/* The largest sequence that it may send now; client NULL: of one that has sent nothing. */
uint64_t ledger_credit(const struct ledger_client *client, const struct ledger_limits *limits);

/* A checkpoint is taken of this moment. The next one only after ledger_written. */
void ledger_snapshot(struct ledger *l);
/* That checkpoint is on disk. */
void ledger_written(struct ledger *l);
/* The next client that can be reached and has not been told how far it is durable, or NULL; it counts as told. */
struct ledger_client *ledger_next_news(struct ledger *l);
/* After it has been read from a checkpoint: all of it is durable. */
void ledger_resumed(struct ledger *l);

#endif
