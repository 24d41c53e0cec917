/* The workers that the parameter server has heard of: how to reach them, and since when they are silent. A worker is
 * known by the random id in its messages; its routing id changes with every connection. */
#ifndef DECANT_SERVER_PARAMETER_WORKERS_H
#define DECANT_SERVER_PARAMETER_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/msg.h"
#include "server/parameter/slot_time.h"

enum {
    WORKERS_MAX = 1024,                    /* ten times the largest cluster that slots of one step could feed */
    WORKERS_SILENCE_MS = WORKER_SILENCE_MS /* gone */
};

struct worker {
    uint64_t id;
    struct peer peer;    /* where its last message came from */
    char host[64];       /* "host:pid" of its HELLO, printable; "" before */
    uint64_t seen_ms;    /* its last message */
    uint64_t slots_done; /* slots that it contributed */
    struct slot_time slot_time;
};

struct workers;

int workers_new(struct workers **out);
void workers_free(struct workers **w);
size_t workers_count(const struct workers *w);

/* Notes a message. The worker, new or known, or NULL when the table is full. *moved: it was known at another peer. */
struct worker *workers_touch(struct workers *w, uint64_t id, const struct peer *from, uint64_t now, bool *moved);
struct worker *workers_find(struct workers *w, uint64_t id); /* or NULL */
void worker_set_host(struct worker *w, const char *text);    /* unprintable characters and blanks become '_' */
/* Removes one worker that has been silent too long and hands out what was known of it. */
bool workers_take_silent(struct workers *w, uint64_t now, struct worker *out);
void workers_forget(struct workers *w, uint64_t id);

#endif
