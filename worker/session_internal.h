/* Inside the session only: its state, and what its files call of each other.
 *
 *   session.c        messages, weights, mixture, timers, the public interface
 *   session_slots.c  slots in hand: from lease to acknowledgement
 *   session_sums.c   gradients of one lease become one
 *   session_links.c  the two servers: hello, heartbeat, deadlines */
#ifndef DECANT_WORKER_SESSION_INTERNAL_H
#define DECANT_WORKER_SESSION_INTERNAL_H

#include "common/float_pool.h"
#include "worker/contribution.h"
#include "worker/mixture_cache.h"
#include "worker/session.h"

#define MILLISECOND UINT64_C(1000)
#define SECOND UINT64_C(1000000)
#define RESEND_US CONTRIBUTION_RESEND_US /* HELLO and LEASE_REQUEST too */
#define PING_US (PING_EVERY_MS * MILLISECOND)
#define PING_HURRY_US (250 * MILLISECOND) /* while something is missing or a server does not answer */
#define REWIND_US SECOND                  /* before the same server is told to go back again */
#define MISSING_US (200 * MILLISECOND)    /* a publication may take so long before it is asked for */
#define MISSING_MAX_US (2 * SECOND)       /* where its back-off ends */
#define QUIET_US (3 * SECOND) /* a server that missed three heartbeats gets no contributions until it answers */
#define SILENCE_WARN_US (30 * SECOND)
#define SILENCE_FAIL_US (300 * SECOND)
#define STOP_US (10 * SECOND) /* so long may what is in hand take; then the worker leaves anyway */

enum { SESSION_EVENTS_MAX = 32 };

/* A server as the worker sees it. */
struct link {
    enum server server;
    const char *name;
    bool used;                  /* joint: no prototype server */
    bool up;                    /* WELCOME has come, for `generation` */
    uint64_t generation;        /* 0 before the first WELCOME */
    uint64_t step;              /* the newest step or version it showed in this generation */
    uint64_t hello_at, ping_at; /* last sent, 0 = never */
    uint64_t rewind_at;         /* when it was last told to go back, 0 = never */
    uint64_t heard_at;          /* last message; the start counts as one */
    bool warned;                /* the present silence has been logged */
    bool outdated;              /* an older generation has answered, and that was logged */
    bool foreign;               /* another run's server has answered, and that was logged */
};

/* Something published that slots wait for. */
struct missing {
    uint64_t since;    /* 0: nothing is missing */
    uint64_t asked_at; /* 0: not asked yet */
    uint64_t wait;     /* before it is asked for again */
};

enum slot_phase {
    SLOT_FREE,    /* the entry is unused */
    SLOT_QUEUED,  /* leased; waits for weights, mixture, a thread */
    SLOT_RUNNING, /* with the executor */
    SLOT_WAITING, /* part A done; part B waits for the next mixture version or a thread */
    SLOT_DONE     /* computed; contributions wait for acknowledgement */
};

struct slot_in_hand {
    struct slot_job job;              /* first: a job is its entry */
    uint32_t lease_slot, lease_slots; /* the lease that it came with: a node of the reduction tree */
    enum slot_phase phase;
    bool abandoned; /* its step is over: computed to the end, nothing more is sent */
    bool again;     /* its statistics are lost: computed to the end, then once more */
    struct mixture_held *held_a, *held_b;
    struct msg stats_draft; /* being filled by the executor */
    struct contribution stats, gradient;
};

struct session {
    struct session_options options;
    enum session_status status;
    bool diverged; /* failed, because a server refused numbers that are not finite */
    bool rejected; /* failed, because a server will not have this worker */
    struct link parameter, prototype;
    struct outbox outbox;
    struct session_event events[SESSION_EVENTS_MAX];
    size_t event_first, event_count;

    bool weights_held;
    uint64_t weights_step;
    uint64_t weights_seen; /* newest version that came without a teacher and none to be had from the one held; 0 none */
    uint64_t teachers_wrong; /* that came out as another one than the server's */
    struct buf *student, *teacher, *buffers;
    struct float_pool *teachers; /* (P) those that were computed here */
    struct missing weights_missing;

    struct mixture_cache mixtures;
    struct missing mixture_missing;
    bool mixture_gap; /* a delta came whose base is not held */

    uint32_t slots_max; /* entries: two steps of slots and what the threads still compute of older ones */
    struct slot_in_hand *slots;
    uint32_t requested; /* slots that the parameter server believes we want */
    uint64_t requested_at;
    struct contribution init;

    bool stopping;
    uint64_t stop_at; /* when it began */
    uint64_t slots_done;
    uint64_t rate_slots, rate_at; /* slots done at the last heartbeat, for images_per_s */
};

/* ---- session.c ---- */
void session_event(struct session *s, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void session_fail(struct session *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct link *session_link(struct session *s, enum server server);
void session_msg(struct session *s, struct msg *m, enum msg_type type, const struct link *to);
/* Adds the generation of the prototype server that this worker works with, if any: see the parameter server's
 * core.h. */
int session_add_lineage(const struct session *s, struct msg *m);
int session_send(struct session *s, enum server to, struct msg *m);
/* Sends c now if it is due and its server answers; the held message stays. */
int session_contribute(struct session *s, struct link *to, struct contribution *c, uint64_t now);

/* ---- session_slots.c ---- */
void slots_on_lease(struct session *s, const struct msg *m);
void slots_on_ack(struct session *s, enum server from, const struct msg *m);
void slots_on_refusal(struct session *s, enum server from, const struct msg *m);
/* To be called whenever the newest weights or mixture changed: drops what has become superfluous. */
void slots_purge(struct session *s);
void slots_forget_leases(struct session *s); /* the parameter server was restarted: nothing in hand counts any more */
void slots_redo(struct session *s);          /* the prototype server was: statistics are needed again */
void slots_end(struct session *s);           /* the run is over: no gradient is needed any more */
void slots_resend(struct session *s, enum server to); /* what that server has not acknowledged is due now */
int slots_send(struct session *s,
               uint64_t now);             /* contributions that are due, then the lease request when it changed */
bool slots_idle(const struct session *s); /* nothing in hand */
/* The oldest mixture version that a slot waits for and that is not held. */
bool slots_missing_mixture(const struct session *s, uint64_t *version);
bool slots_missing_weights(const struct session *s);
void slots_free(struct session *s);
struct slot_in_hand *slots_find(struct session *s, uint64_t step, uint32_t slot); /* NULL when not in hand */
void slots_settle(struct session *s, struct slot_in_hand *e); /* frees the entry when nothing is left to do for it */

/* ---- session_sums.c ---- */
/* Called when e's gradient may be sent: adds to it the gradients of the same lease that are ready. Returns the entry
 * that now holds the sum (e or another), or NULL when more of the lease is still being computed and worth waiting
 * for. */
struct slot_in_hand *sums_take(struct session *s, struct slot_in_hand *e);

/* ---- session_links.c ---- */
void link_init(struct link *l, enum server server, bool used);
int link_on_welcome(struct session *s, struct link *l, const struct msg *m);
int link_on_pong(struct session *s, struct link *l, const struct msg *m, uint64_t now);
/* Any message: notes that the server lives. True when the message may be used: from the generation that welcomed us. */
bool link_heard(struct session *s, struct link *l, const struct msg *m, uint64_t now);
void link_down(struct link *l);                        /* forgets the welcome, so that hello is said again */
bool link_answers(const struct link *l, uint64_t now); /* welcomed us, and was heard of lately */
int link_on_timer(struct session *s, struct link *l, uint64_t now);
int link_goodbye(struct session *s, struct link *l); /* so that the server need not wait until our silence is noticed */

#endif
