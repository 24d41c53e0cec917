/* Stream mode in one process: the real core of the prototype server under the real incarnation, and clients that follow
 * docs/PROTOCOL.md, section 12, in virtual time. A seed gives the same run every time.
 *
 *   stream_main.c    the command line
 *   stream_world.c   the run: events, the network, what goes wrong, the end
 *   stream_server.c  the server's process and its disk
 *   stream_client.c  a client
 *   stream_check.c   which contributions were accepted, in which order, and that the mixture is theirs
 *   planted/         mistakes on purpose, each of which must be found */
#ifndef DECANT_TESTS_SIM_STREAM_STREAM_SIM_H
#define DECANT_TESTS_SIM_STREAM_STREAM_SIM_H

#include "common/rng.h"
#include "server/prototype/core_incarnation.h"
#include "tests/sim/events.h"

#define MILLISECONDS UINT64_C(1000) /* virtual time is in microseconds */
#define SECONDS UINT64_C(1000000)

enum { CLIENTS = 4, TARGET_MAX = 60, LOG_MAX = 20000, VERSIONS_MAX = 20000, FAILURE_BYTES = 512 };

/* A contribution that the server has accepted. */
struct accepted {
    uint64_t client; /* its uid */
    uint64_t seq;
};

/* The order of acceptance in the history that is still true: going back to a checkpoint forgets what came after it. */
struct acceptance {
    struct accepted log[LOG_MAX];
    uint32_t count;
    uint32_t folded[VERSIONS_MAX]; /* by version: entries that are in it */
    uint64_t version;
};

struct checkpoint_image {
    bool present;
    struct mixture *mixture;
    struct mixture_facts facts;
};

struct stream_server {
    bool alive;
    uint64_t process, clock_us, frozen_until_us;
    uint64_t generation; /* on disk */
    struct incarnation policy;
    struct prototype_incarnation prototype;
    struct outbox out;
    struct checkpoint_image written, writing; /* on disk; on the way there */
};

/* What a client keeps is a number: what it contributes is a function of (uid, seq). */
struct stream_client {
    bool alive;
    uint64_t uid, process, clock_us, frozen_until_us;
    struct peer peer;
    uint64_t name, generation;
    uint64_t made, next, applied, durable, credit; /* contributions made; to be sent next; as the server said */
    uint64_t target;                               /* to be made */
    bool greeted;
    uint64_t hello_us, ping_us, heard_us, again_us;
    uint64_t pings, ping_next; /* number of the newest PING, and what was next when it left */
};

struct world {
    uint64_t seed;
    struct run_config config;
    struct rng rng;
    struct events events;
    struct stream_server server;
    struct stream_client clients[CLIENTS];
    struct acceptance accepted;
    uint64_t processes, peers, uids;
    uint32_t loss_percent, duplicate_percent, late_percent;
    bool reorder;
    uint64_t last_up_us[CLIENTS], last_down_us[CLIENTS];
    uint64_t partitioned_until_us[CLIENTS];
    uint64_t fault_every_us, heal_us, deadline_us;
    bool healed, ending, over, verbose;
    uint64_t trace, handled;
    uint32_t crashes, duplicates, replays;
    char failure[FAILURE_BYTES];
};

/* stream_world.c */
void world_run(struct world *w, uint64_t seed, bool verbose);
void world_fail(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void world_trace(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t world_between(struct world *w, uint64_t low, uint64_t high);
bool world_chance(struct world *w, uint32_t percent);
void world_to_server(struct world *w, uint32_t seat, struct msg *m); /* takes the message over */
void world_to_clients(struct world *w, const struct outbox_item *item);
void world_schedule(struct world *w, enum event_kind kind, uint32_t seat, uint64_t process, uint64_t after_us);

/* stream_server.c */
void server_start(struct world *w);
void server_crash(struct world *w);
void server_signal(struct world *w);
void server_on_message(struct world *w, struct event *e);
void server_on_timer(struct world *w);
void server_on_written(struct world *w);

/* stream_client.c */
void client_start(struct world *w, uint32_t seat);
void client_crash(struct world *w, uint32_t seat);
void client_reconnect(struct world *w, uint32_t seat);
void client_on_message(struct world *w, uint32_t seat, const struct msg *m);
void client_on_timer(struct world *w, uint32_t seat);
bool client_done(const struct stream_client *k); /* everything is made, and durable */

/* stream_check.c */
/* The statistics of contribution seq of a client. */
void contribution(const struct run_config *c, uint64_t uid, uint64_t seq, struct msg *out);
/* What the server said to m, before it is sent. */
void check_answers(struct world *w, const struct event *e, const struct outbox *out);
void check_turn(struct world *w);                      /* after it: is there a new version? */
void check_resumed(struct world *w, uint64_t version); /* the server stands there */
void check_durable(struct world *w, const struct stream_client *k, uint64_t durable); /* it was told that much */
void check_end(struct world *w); /* the newest checkpoint is the accepted order, applied once each */

#endif
