/* Who has been heard lately: the workers that sent this server a message, for the people who watch. The mixture never
 * depends on it. Bounded: when full, the one silent for longest makes room. */
#ifndef DECANT_SERVER_PROTOTYPE_ROSTER_H
#define DECANT_SERVER_PROTOTYPE_ROSTER_H

#include <stddef.h>
#include <stdint.h>
#include "proto/msg.h"

enum {
    ROSTER_MAX = 512,                      /* workers remembered */
    ROSTER_RATES_MAX = 8,                  /* scalars of a heartbeat that are kept */
    ROSTER_SILENCE_MS = WORKER_SILENCE_MS, /* forgotten */
};

struct roster_entry {
    uint64_t id;
    char host[64];                             /* host:pid, as it introduced itself */
    uint64_t first_ms, seen_ms;                /* loop time of the first and newest message */
    uint64_t step;                             /* newest step it spoke of */
    uint64_t stats;                            /* statistics applied (slots) */
    struct msg_scalar rates[ROSTER_RATES_MAX]; /* as of its newest heartbeat */
    uint32_t rate_count;
};

struct roster {
    struct roster_entry entries[ROSTER_MAX]; /* in order of arrival */
    size_t count;
};

/* Notes a message of m->worker (0 is nobody); NULL then, else its entry. */
struct roster_entry *roster_note(struct roster *r, const struct msg *m, uint64_t now_ms);
/* Forgets who has been silent for ROSTER_SILENCE_MS; returns how many. */
size_t roster_expire(struct roster *r, uint64_t now_ms);

#endif
