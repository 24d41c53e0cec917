/* A cluster in one process: the real cores of both servers and the real sessions of workers, driven by events in
 * virtual time. Nothing here asks the machine for anything: a seed gives the same run, event by event, every time.
 *
 *   sim_main.c     the command line: one seed with a trace, or many on several processes
 *   scenario.c     what a seed stands for
 *   cluster.c      the run: events to nodes, until it is over
 *   server_node.c, worker_node.c   what shell.c and worker/service.c do in the real processes
 *   faults.c       what goes wrong; rogue.c: a worker that lies
 *   network.c, disk.c, events.c, arithmetic.c           the world, as cheap as it can be
 *   checker.c, explain.c   what must be true; where everybody stands when it is not
 *   planted/       mistakes on purpose, each of which must be found */
#ifndef DECANT_TESTS_SIM_SIM_H
#define DECANT_TESTS_SIM_SIM_H

#include "common/rng.h"
#include "proto/server.h"
#include "server/parameter/core_incarnation.h"
#include "server/prototype/core_incarnation.h"
#include "tests/sim/checker.h"
#include "tests/sim/disk.h"
#include "tests/sim/events.h"
#include "tests/sim/scenario.h"
#include "worker/session.h"

enum { FAILURE_BYTES = 1024 };

struct cluster;

struct server_node {
    struct cluster *cluster;
    enum server server;
    bool alive;
    uint64_t process;         /* its number; unique in the cluster */
    uint64_t frozen_until_us; /* it does nothing before */
    uint64_t clock_us;        /* what its clock showed at virtual time 0 */
    struct incarnation policy;
    struct parameter_incarnation parameter; /* of the parameter server */
    struct prototype_incarnation prototype; /* of the prototype server */
    uint64_t version_seen;                  /* prototype server: after the turn before; UINT64_MAX: none yet */
    uint64_t generation_seen;               /* likewise: another one means that it went back */
    struct outbox out;
};

struct worker_node {
    bool alive, leaving;
    uint64_t process, frozen_until_us, clock_us;
    struct peer peers[SERVERS]; /* routing ids of its connections */
    struct session *session;
    uint64_t *carry; /* (jobs_max) of part A, by the job's index */
};

enum channel { CHANNEL_UP, CHANNEL_DOWN, CHANNEL_PUBLISHED, CHANNELS };

struct sim_link {              /* between a seat and a server, one way */
    uint64_t blocked_until_us; /* what is sent is lost */
    uint64_t clogged_until_us; /* what is under way arrives then, all at once */
    uint64_t last_us;          /* arrival of the latest message, when order is kept */
};

struct cluster {
    const struct scenario *scenario;
    struct reference *reference; /* filled in by the undisturbed run, compared with by others */
    struct rng rng;
    struct events events;
    struct disk disk;
    struct server_node servers[SERVERS];
    struct worker_node seats[SEATS];
    struct sim_link links[SEATS][SERVERS][CHANNELS];
    struct checker checker;
    uint64_t processes;   /* started so far */
    uint32_t faults;      /* so far */
    uint64_t fault_at;    /* of busy_faults: after so many events; 0 = none */
    uint64_t in_flight;   /* messages */
    bool rogue_awake;     /* the scenario's rogue has begun to lie */
    bool end_struck;      /* the scenario's fault_at_end has happened */
    bool healed;          /* nothing goes wrong any more */
    uint64_t deadline_us; /* of healed */
    bool over;            /* the run has finished: only the workers' leaving is left */
    bool verbose;
    uint64_t trace; /* hash of all events: equal for equal seeds */
    uint64_t handled;
    char failure[FAILURE_BYTES]; /* the first; "" while all is well */
};

/* Runs the scenario to its end. The failure, if any, is in c->failure. Ends with cluster_fini. */
void cluster_run(struct cluster *c, const struct scenario *s, struct reference *reference, bool verbose);
void cluster_fini(struct cluster *c);

/* ---- for the files of the simulator ---- */

void sim_fail(struct cluster *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_trace(struct cluster *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Uniform in [low, high]. */
uint64_t sim_between(struct cluster *c, uint64_t low, uint64_t high);
bool sim_chance(struct cluster *c, uint32_t percent);
uint64_t sim_now(const struct cluster *c);

/* network.c */
void network_from_worker(struct cluster *c, uint32_t seat, const struct outbox_item *item);
/* The same, whoever lies. */
void network_transmit_up(struct cluster *c, uint32_t seat, const struct outbox_item *item);
/* False when the sender is told that it did not leave. */
bool network_from_server(struct cluster *c, enum server server, const struct outbox_item *item);
void network_connect(struct cluster *c, uint32_t seat, enum server server); /* a new routing id */
void network_heal(struct cluster *c);

/* rogue.c: the worker in the last seat, if the scenario has one that lies */
void rogue_start(struct cluster *c);
bool rogue_acts(struct cluster *c, uint32_t seat);                      /* this seat's worker lies now */
bool rogue_swallows(struct cluster *c, const struct outbox_item *item); /* it sends something else instead */

/* server_node.c */
void server_node_start(struct server_node *n);
void server_node_free(struct server_node *n);
uint64_t server_node_timer_ms(const struct server_node *n);
uint64_t server_node_step(const struct server_node *n); /* t, or the mixture's version */
void server_node_on_message(struct server_node *n, struct event *e);
void server_node_on_timer(struct server_node *n);
void server_node_on_signal(struct server_node *n); /* SIGTERM */
void server_node_on_written(struct server_node *n);

/* cluster.c */
/* An event of the process that is there now. */
void schedule_server(struct cluster *c, enum server server, enum event_kind kind, uint64_t after_us);
void cluster_over(struct cluster *c); /* every step is done and on disk */
void server_kill(struct cluster *c, enum server server, uint64_t back_after_us);
void server_submit(struct cluster *c, enum server server, struct disk_file *f);
uint64_t server_clock_ms(const struct cluster *c, enum server server);
uint64_t server_step(const struct cluster *c, enum server server); /* t, or the mixture's version; 0 when it is down */

/* worker_node.c */
void worker_node_start(struct cluster *c, uint32_t seat);
void worker_node_kill(struct cluster *c, uint32_t seat);
void worker_node_leave(struct cluster *c, uint32_t seat);
void worker_node_on_message(struct cluster *c, struct event *e);
void worker_node_on_timer(struct cluster *c, uint32_t seat);
void worker_node_on_part(struct cluster *c, struct event *e);
uint32_t workers_alive(const struct cluster *c);

/* faults.c */
void faults_start(struct cluster *c);
void faults_on_event(struct cluster *c);
void faults_near_end(struct cluster *c, enum server server); /* its file of step T is on disk */

#endif
