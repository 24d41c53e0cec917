/* The door of a server: who may connect, and what they may send.
 *
 *   door_open(&d, net, loop, config, SERVER_PARAMETER, &e);          // before the sockets are bound
 *   struct net_options o = {..., .curve = &d.curve, .on_event = door_on_event, .event_arg = &d.requests};
 *   door_opened(&d);                                                  // the sockets have the secret now
 *   if (!door_lets(&d, net_sender(requests), &msg)) refuse it with REASON_FORBIDDEN;
 *   door_on_subscription(&d, net_sender(publications), frames[0]);    // for each that arrives
 *   door_close(&d);  ... the loop runs out ...  door_fini(&d);
 *
 * With keys.directory, DIRECTORY/SERVER.key is ours and DIRECTORY/allowed (proto/allow_list.h) says who comes in. That
 * file is looked at every second: who is added can connect from then on, and who is removed is refused from then on,
 * with every message and with every new connection, and loses the subscriptions that they have. A file that cannot be
 * read changes nothing, and one that nobody who works is left on has to be confirmed (server/shell/list_guard.h).
 *
 * Connections are kept within bounds (server/shell/guests.h), with keys and without.
 *
 * Without keys everybody who reaches the socket may do everything. So a server that is bound to more than this machine
 * does not start without them, unless net.insecure says so. ipc:// is guarded by the file system alone, also with keys.
 */
#ifndef DECANT_SERVER_SHELL_DOOR_H
#define DECANT_SERVER_SHELL_DOOR_H

#include "common/log.h"
#include "common/zap.h"
#include "proto/allow_list.h"
#include "proto/keys.h"
#include "server/shell/guests.h"
#include "server/shell/list_guard.h"

/* Bytes of weights, mixtures and answers that may wait for peers to read them. Twice the largest model that the wire
 * takes would be no bound; this holds what a hundred workers of a large model have not read yet, and one message is let
 * through whatever its size. */
enum { DOOR_QUEUED_BYTES_MAX = 256 << 20 };

struct door;

/* One of the two sockets; the argument of door_on_event. */
struct door_side {
    struct door *door;
    struct guests guests;
};

struct door_counters {
    uint64_t keys_refused;      /* handshakes with a key that is not listed */
    uint64_t handshakes_failed; /* other failed handshakes */
    uint64_t cut_off;           /* subscriptions ended because their key was removed */
};

struct door {
    struct net_curve curve; /* for the sockets; without keys it is empty */
    struct door_counters counters;
    struct door_side requests, publications;
    /* private */
    enum server server;
    const struct net *net;
    bool guarded;                                   /* requests come through CURVE */
    bool keys;                                      /* anything does */
    char path[KEY_PATH_MAX], own_key[NET_KEY_TEXT]; /* own_key is public */
    struct allow_list list;
    struct zap zap;
    uv_loop_t *loop;
    uv_fs_poll_t poll;
    struct list_guard guard;
    uv_timer_t confirm; /* the second look */
    bool polling;       /* poll and confirm are open */
    uv_timer_t look;    /* at connections */
    bool looking;       /* look is open */
    uint64_t cut_said;
    struct log_pace pace_keys, pace_handshakes, pace_subscriptions, pace_cuts, pace_room;
};

/* ERR_CONFIG: no keys but bound beyond this machine, or a file that is missing or wrong. d may be closed then too. */
int door_open(struct door *d, struct net *n, uv_loop_t *loop, const struct run_config *c, enum server which,
              struct error *e);
void door_opened(struct door *d); /* wipes the secret */
bool door_lets(struct door *d, const struct net_sender *from, const struct msg *m);
/* What to tell whom door_lets did not let. */
const char *door_refusal(const struct door *d, const struct net_sender *from);
/* frame: as an XPUB receives it. Whoever may not have that topic is cut off. */
void door_on_subscription(struct door *d, const struct net_sender *from, const struct buf *frame);
void door_on_event(void *side, const struct net_event *event);
void door_close(struct door *d); /* handles close on the loop; also after a failed door_open, or of a zeroed door */
void door_fini(struct door *d);

/* Whether an endpoint can be reached from this machine only: ipc:// and inproc://, and tcp:// when every address that
 * its name has now is on the loopback ("tcp://127.0.0.1:*", "tcp://[::1]:5", mostly "tcp://lo:5",
 * "tcp://localhost:5"). ERR_CONFIG or ERR_IO when it has none. */
int door_is_local(const char *endpoint, bool *local, struct error *e);

#endif
