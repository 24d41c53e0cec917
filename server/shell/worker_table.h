/* The workers that a server has heard of lately: how to reach them, since when they are silent, what they have done.
 * A worker is known by the random id in its messages; its routing id changes with every connection. With keys, the
 * same id under two keys means two workers, so that nobody can speak for a worker of another key. */
#ifndef DECANT_SERVER_SHELL_WORKER_TABLE_H
#define DECANT_SERVER_SHELL_WORKER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/msg.h"
#include "server/shell/slot_time.h"

enum {
    WORKERS_MAX = 1024,         /* ten times the largest cluster that slots of one step could feed */
    WORKERS_SILENCE_MS = 10000, /* ten missed heartbeats: gone */
    WORKER_RATES_MAX = 8        /* scalars of a heartbeat that are kept */
};

struct worker {
    uint64_t id;                               /* as it calls itself: for people, and for answers */
    uint64_t handle;                           /* worker_handle: what leases and this table go by */
    struct peer peer;                          /* where its last message came from */
    char host[64];                             /* "host:pid" of its HELLO, printable; "" before */
    uint64_t first_ms, seen_ms;                /* its first and its last message */
    uint64_t step;                             /* newest step that it spoke of */
    uint64_t slots_done;                       /* slots that it contributed here */
    struct slot_time slot_time;                /* from lease to gradient; the parameter server's */
    struct msg_scalar rates[WORKER_RATES_MAX]; /* as of its newest heartbeat */
    uint32_t rate_count;
};

struct worker_table {
    size_t count;
    struct worker workers[WORKERS_MAX]; /* the first `count`, in no order that means anything */
};

enum worker_verdict {
    WORKER_KNOWN,
    WORKER_MOVED, /* it was known at another peer: what was sent there may be lost */
    WORKER_FULL   /* the table has no room */
};

/* Notes a message of a worker (m->worker != 0), its host if it is a HELLO, its rates if it is a PING. *out: the worker,
 * or NULL for WORKER_FULL, which changes nothing. */
enum worker_verdict worker_table_note(struct worker_table *t, const struct msg *m, const struct peer *from,
                                      uint64_t now, struct worker **out);
/* The worker of that id, under the key of whoever sent it. */
uint64_t worker_handle(uint64_t id, const struct peer *from);
struct worker *worker_table_find(struct worker_table *t, uint64_t handle); /* or NULL */
void worker_set_host(struct worker *w, const char *text); /* unprintable characters and blanks become '_' */
/* Removes one worker that has been silent too long and hands out what was known of it. */
bool worker_table_take_silent(struct worker_table *t, uint64_t now, struct worker *out);
/* Copies what is used of it. */
void worker_table_copy(struct worker_table *to, const struct worker_table *from);
void worker_table_forget(struct worker_table *t, uint64_t handle);

#endif
