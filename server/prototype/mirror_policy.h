/* When the mirror connects, gives a connection up, writes, stands back and ends: decisions alone, without I/O. mirror.c
 * says what happened and asks at every tick what is to be done now; all times are the loop's milliseconds.
 *
 *   waiting --CONNECT--> reaching --linked--> idle --UPDATE--> updating --ended--> idle
 *      ^                    | lost, unfit       | lost            | lost
 *      +--------------------+-------------------+-----------------+
 *
 * A connection that ends before an update was taken whole makes the next pause longer, so that neither a Redis that is
 * away nor a stranger that greets well and then misbehaves costs more than a try every few seconds. */
#ifndef DECANT_SERVER_PROTOTYPE_MIRROR_POLICY_H
#define DECANT_SERVER_PROTOTYPE_MIRROR_POLICY_H

#include <stdbool.h>
#include <stdint.h>
#include "common/rng.h"

enum mirror_action {
    MIRROR_REST,
    MIRROR_CONNECT, /* then say mirror_policy_reaching */
    MIRROR_DROP,    /* the connection; *why says what it failed to do. Then say mirror_policy_lost */
    MIRROR_UPDATE,  /* then say mirror_policy_updating */
    MIRROR_CLOSE,   /* everything, for good */
};

enum mirror_phase { MIRROR_WAITING, MIRROR_REACHING, MIRROR_IDLE, MIRROR_UPDATING };

enum mirror_outcome {
    MIRROR_TAKEN,      /* every batch */
    MIRROR_REFUSED,    /* Redis answered one with an error */
    MIRROR_SUPERSEDED, /* a newer server of the run holds the mirror */
};

/* Private but for reading. */
struct mirror_policy {
    enum mirror_phase phase;
    uint64_t interval_ms;
    uint64_t wake_ms;     /* waiting: of the next try; reaching: the deadline; idle: of the next update */
    uint64_t began_ms;    /* of the update */
    uint64_t progress_ms; /* newest answer, or newest batch into an empty pipeline */
    uint32_t in_flight;   /* batches that are not answered */
    uint32_t failures;    /* connections in a row that ended before an update was taken whole */
    uint32_t refusals;    /* updates in a row that were refused */
    bool superseded;      /* so was the newest update */
    bool stopping;
    bool final;         /* the update under way began after the stop: its copy is the last one */
    bool final_written; /* it has ended, well or not */
    uint64_t stop_ms;   /* deadline of stopping */
    struct rng jitter;
};

void mirror_policy_init(struct mirror_policy *p, double interval_s, uint64_t seed);
enum mirror_action mirror_policy_decide(const struct mirror_policy *p, uint64_t now_ms, const char **why);

/* ---- what happened ---- */
void mirror_policy_reaching(struct mirror_policy *p, uint64_t now_ms);
void mirror_policy_linked(struct mirror_policy *p, uint64_t now_ms); /* logged in, and fit */
void mirror_policy_lost(struct mirror_policy *p, uint64_t now_ms);
void mirror_policy_unfit(struct mirror_policy *p,
                         uint64_t now_ms); /* no update would be taken: look again much later */
void mirror_policy_updating(struct mirror_policy *p, uint64_t now_ms);
void mirror_policy_sent(struct mirror_policy *p, uint64_t now_ms);              /* a batch */
void mirror_policy_answered(struct mirror_policy *p, uint64_t now_ms);          /* a batch */
void mirror_policy_ended(struct mirror_policy *p, enum mirror_outcome outcome); /* the update; nothing is in flight */
/* The update that ended had no room for all: the next one may begin at once, and the last one is not written yet. */
void mirror_policy_more(struct mirror_policy *p);
void mirror_policy_hurry(struct mirror_policy *p); /* what Redis shows is void: the next update is due */
void mirror_policy_stop(struct mirror_policy *p, uint64_t now_ms);

/* May another batch be sent before an answer has come? */
bool mirror_policy_may_send(const struct mirror_policy *p);

#endif
