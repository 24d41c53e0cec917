/* The core of a worker: leases come in and jobs go out; results come in and statistics and gradients go out. It is a
 * state machine without socket, clock or thread; time is in microseconds of any monotonic clock.
 *
 *   session_on_timer(s, now);                             // every 50 ms or so; the first call says hello
 *   session_on_message(s, SERVER_PARAMETER, &msg, now);   // whatever arrives, checked by msg_decode only
 *   while ((job = session_next_job(s)) != NULL)           // at most `threads` are out at a time
 *       hand it to an executor;
 *   session_on_part_a(s, job, now);                       // as soon as its statistics are there
 *   session_on_part_b(s, job, now);                       // when its gradient is
 *   send session_outbox(s)'s items, then outbox_clear; log session_next_event; look at session_status
 *
 * Rules it keeps:
 *   - The parameter server decides whether this worker's images and arithmetic are the run's: the prototype server is
 *     greeted only once that one has said WELCOME.
 *   - A slot of step t starts once WEIGHTS t and MIXTURE t are held. If one is missing it is asked for after 200 ms,
 *     then again with back-off.
 *   - STATS are sent after part A. GRADIENT is sent after part B, but only once STATS are acknowledged or a mixture
 *     version shows that they were applied. So a step that the parameter server finishes never lacks statistics.
 *   - Contributions are sent again every 2 s and after every WELCOME, until they are acknowledged, refused, or known
 *     to be superfluous (contribution.h).
 *   - mixture.prototype_lag = 0: part B of step t waits for MIXTURE t+1. If t+1 exists before part A begins,
 *     statistics are skipped.
 *   - Newer WEIGHTS end older steps: their leases are dropped and their results are not sent.
 *   - A server that was restarted (a higher generation) may have gone back to a checkpoint. What is in hand is then
 *     dropped (parameter server) or computed again (prototype server). A slot is a pure function, so only time is
 *     lost.
 *   - Workers are the only ones who see both servers, so it is they who notice when one of them has lost what the
 *     other builds on. With t the parameter server's step and v the mixture's version, a healthy pair has t <= v <=
 *     t+1 at every instant. PING carries what is known of the other server, and PONG repeats it: if a server that
 *     was asked after the other one had been seen at a step stands too far behind that step, the other is told to go
 *     back (REWIND). */
#ifndef DECANT_WORKER_SESSION_H
#define DECANT_WORKER_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include "common/log.h"
#include "proto/manifest.h"
#include "proto/mixture_wire.h"
#include "proto/msg.h"

struct session_options {
    const char *run;      /* name */
    const char *host;     /* "host:pid" */
    uint64_t worker;      /* random id, not 0 */
    uint64_t config;      /* run_config_hash */
    uint64_t total_steps; /* of the run */
    uint64_t data;        /* dataset_fingerprint; 0: not known */
    uint64_t numerics;    /* numerics_fingerprint; 0: not known */
    uint32_t slots;       /* M */
    uint32_t slot_size;   /* b */
    uint32_t threads;     /* jobs computed at a time */
    uint32_t ahead;       /* slots leased beyond those */
    bool joint;           /* no prototype server, no mixture */
    uint32_t prototype_lag;
    uint32_t K, D;
    enum covariance covariance;
    const struct manifest *manifest;
    void (*initial)(void *context, float *params, float *buffers); /* the values of INIT */
    void *context;
};

enum { SLOT_PART_A = 1, SLOT_PART_B = 2 };

/* What an executor (a compute thread) computes, and where it leaves the results. Between part A and part B of a slot
 * it may keep whatever it needs under `index`, which no other slot in hand has. */
struct slot_job {
    uint32_t index; /* < session_jobs_max() */
    uint64_t step;
    uint32_t slot;
    unsigned parts;                               /* SLOT_PART_*: to be computed in this go, A first */
    struct buf *student, *teacher, *buffers;      /* WEIGHTS of the step; buffers is NULL when there are none */
    const struct mixture_view *mixture_a;         /* of the E-step; NULL: no E-step, no statistics */
    const struct mixture_view *mixture_b;         /* of the loss; NULL when joint */
    struct msg *stats;                            /* part A adds encoding, tensors, scalars; NULL without an E-step */
    struct buf *gradient, *new_buffers, *metrics; /* part B puts new ones here: (P) F32, (Q) F32, F64 */
    uint32_t metric_count;
    int rc_a, rc_b; /* result of each part: 0, or the ERR_* that ends the worker */
};

struct session;
int session_new(const struct session_options *o, struct session **out);
void session_free(struct session **s); /* no job may still be with an executor */
uint32_t session_jobs_max(const struct session *s);

/* from: the server whose socket it arrived on. The message stays the caller's. 0 or ERR_MEMORY. */
int session_on_message(struct session *s, enum server from, const struct msg *m, uint64_t now);
int session_on_timer(struct session *s, uint64_t now);
struct slot_job *session_next_job(struct session *s); /* NULL when none is ready or all threads are busy */
/* Entry i < session_jobs_max(): whether it is a leased slot that no job was given out for yet. */
bool session_queued(const struct session *s, uint32_t i, uint64_t *step, uint32_t *slot);
/* The first leased slot from `from` on that only waits for its step's weights: false when there is none. Its lease
 * comes some milliseconds before them. */
bool session_awaiting(const struct session *s, uint32_t from, uint64_t *step, uint32_t *slot);
int session_on_part_a(struct session *s, struct slot_job *job, uint64_t now);
int session_on_part_b(struct session *s, struct slot_job *job, uint64_t now);
/* Takes no more leases, finishes what is in hand within 10 s, and is SESSION_DONE then. */
int session_stop(struct session *s, uint64_t now);

struct outbox *session_outbox(struct session *s); /* SERVER_PARAMETER and SERVER_PROTOTYPE items */

struct session_event {
    enum log_level level;
    char text[320]; /* logfmt */
};
bool session_next_event(struct session *s, struct session_event *out);

enum session_status { SESSION_RUNNING, SESSION_DONE /* exit 0 */, SESSION_FAILED /* exit 1; an event said why */ };
enum session_status session_status(const struct session *s);
/* It failed because a server refused what this worker is: its configuration, images or arithmetic. Another start
 * would be refused again. Keys are no part of it, since a list of keys changes while servers run. */
bool session_rejected(const struct session *s);
/* It failed because what it computed is not finite, as it would be for every worker. */
bool session_diverged(const struct session *s);
/* Tells both servers that this worker leaves, so that its leases are free at once. A session that is done has said it;
 * one that failed, or is left in the middle, has not. 0 or ERR_MEMORY. */
int session_goodbye(struct session *s);
/* What health checks and progress lines show. */
struct session_view {
    bool parameter_up, prototype_up; /* heard of within the last three heartbeats */
    bool joint;                      /* there is no prototype server */
    uint64_t step;                   /* of the newest weights held; 0 before */
};
void session_look(const struct session *s, uint64_t now, struct session_view *out);
uint64_t session_slots_done(const struct session *s); /* slots whose gradient was applied */

#endif
