/* The connections of one bound socket. ZeroMQ accepts whoever comes until the process has no descriptor left, keeps
 * who says nothing, and queues for who does not read. It cannot be told to close one connection either, but it tells
 * which descriptor each has; shutting that down ends the connection, and an honest peer connects again.
 *
 *   guests_accept   a connection came: if there are too many, the oldest that has said nothing goes, else the newcomer
 *   guests_hear     a sound message came from it: it is proven
 *   guests_leave    it is closed
 *   guests_look     every second: who has said nothing for long goes, and who does not read
 *
 * All this is heard a little later than it happens, when a descriptor may be another connection's or a file's. So
 * what is shut down has to be the very socket that was accepted, by its inode. */
#ifndef DECANT_SERVER_SHELL_GUESTS_H
#define DECANT_SERVER_SHELL_GUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "common/net.h"
#include "common/net_address.h"

enum {
    GUESTS_MAX = 4096, /* of a socket, whatever the descriptors allow: eight times the workers that are taken */
    GUESTS_UNPROVEN_MAX =
        256, /* of one address that have said nothing yet: a machine full of workers that start at once */
    GUESTS_SILENT_MS = 30000,      /* a handshake, and the loop that has to answer it, are done long before */
    GUESTS_STALLED_MS = 20000,     /* nothing of what is queued got through: a process that is stopped, or hostile */
    GUESTS_STALLED_HURRY_MS = 5000 /* the same while no more may be queued for anybody */
};

enum guest_cut {
    CUT_CROWD,   /* one too many */
    CUT_SILENT,  /* said nothing */
    CUT_STALLED, /* did not read */
    CUT_ROLE,    /* asked for what its key may not have */
    GUEST_CUTS
};

const char *guest_cut_name(enum guest_cut why); /* "crowd" ... */

struct guest {
    int fd;      /* ZeroMQ's */
    ino_t inode; /* of the socket */
    bool proven;
    char user[NET_KEY_TEXT]; /* whose key; empty without, and before it is proven */
    struct net_address from; /* of tcp; size 0 else */
    uint64_t since_ms;
    uint64_t progress; /* what the kernel has delivered, or still holds; only its changes count */
    uint64_t moved_ms; /* when that last changed, or nothing was queued */
};

struct guests {
    struct guest *all; /* in no order */
    size_t count, room;
    size_t max;               /* at most GUESTS_MAX */
    uint64_t cut[GUEST_CUTS]; /* how many were ended, by cause */
};

void guests_init(struct guests *g, size_t max);
void guests_fini(struct guests *g);
void guests_accept(struct guests *g, int fd, uint64_t now_ms);
void guests_leave(struct guests *g, int fd);
/* user: whose key, or "". Of a connection that is not known yet, too: both ways of hearing are apart. */
void guests_hear(struct guests *g, int fd, const char *user, uint64_t now_ms);
/* hurry: what is queued has reached its limit. */
void guests_look(struct guests *g, uint64_t now_ms, bool hurry);
/* No descriptor was left for a newcomer: a quarter of those who have said nothing, the oldest, make room. */
void guests_make_room(struct guests *g);
void guests_cut(struct guests *g, int fd, enum guest_cut why);
/* Ends those with a key that stays(arg, key) does not want any more. Returns how many; they are in no count. */
size_t guests_cut_keys(struct guests *g, bool (*stays)(const void *arg, const char *key), const void *arg);

#endif
