/* What a seed stands for: the configuration of the run, the machines, the network, and what goes wrong. Everything is
 * drawn here, before the simulation begins, but for the moments and the victims of faults.
 *
 * The keys that shape the result depend on the configuration's number alone (seed mod SCENARIO_CONFIGS), so that the
 * undisturbed run is computed once per number and not once per seed. */
#ifndef DECANT_TESTS_SIM_SCENARIO_H
#define DECANT_TESTS_SIM_SCENARIO_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/manifest.h"
#include "proto/run_config.h"

#define MILLISECONDS UINT64_C(1000) /* virtual time is in microseconds */
#define SECONDS UINT64_C(1000000)

enum { SCENARIO_CONFIGS = 997, SEATS = 8 /* workers at a time, at most */, ROGUE_SEAT = SEATS - 1 };

enum fault {
    FAULT_CRASH_PARAMETER,
    FAULT_CRASH_PROTOTYPE,
    FAULT_CRASH_BOTH,
    FAULT_END_SERVER, /* SIGTERM: it drains, and comes back */
    FAULT_CRASH_WORKER,
    FAULT_FREEZE_WORKER,
    FAULT_FREEZE_SERVER,
    FAULT_JOIN,
    FAULT_LEAVE,
    FAULT_RECONNECT,
    FAULT_PARTITION,
    FAULT_CLOG,
    FAULT_DAMAGE,
    FAULT_KINDS
};

struct scenario_network {
    uint32_t loss_percent, duplicate_percent;
    bool reorder;                     /* else each link keeps the order */
    bool wire;                        /* messages pass through msg_encode and msg_decode */
    bool patient;                     /* what is sent to a server that is down waits for it, as a DEALER queues */
    uint64_t delay_us, delay_tail_us; /* least delay; most that is drawn on top */
    uint32_t late_percent;            /* of messages that take seconds */
};

struct scenario {
    uint64_t seed;
    uint32_t number; /* of the configuration */
    bool undisturbed;
    struct run_config config;
    struct manifest manifest;
    uint64_t steps; /* T */
    bool joint;

    uint32_t workers; /* at the start, >= 1 */
    struct scenario_network network;
    uint32_t keep;                                   /* complete checkpoints that pruning leaves */
    uint64_t write_us_min, write_us_max;             /* a checkpoint's write */
    uint64_t part_us_min[SEATS], part_us_max[SEATS]; /* a part of a slot, by the seat of the worker */

    bool rogue;              /* the worker of ROGUE_SEAT lies */
    uint64_t rogue_from;     /* once the parameter server has come to this step */
    unsigned faults;         /* 1 << enum fault */
    uint64_t fault_every_us; /* mean time between two */
    bool busy_faults;        /* they strike where much is going on: after so many events instead */
    bool fault_at_end;       /* a server crashes when its file of step T is on disk and the other one's is not */
    uint32_t faults_max;
    uint64_t faults_until_us; /* then, at the latest, the network heals and nothing breaks any more */
    uint64_t budget_us;       /* in which the run must be over after that */
};

/* The scenario of a seed. Exits with a message when its configuration is refused: that is a mistake in here. */
void scenario_draw(uint64_t seed, struct scenario *out);
/* The same configuration with one worker and nothing that goes wrong. */
void scenario_undisturbed(uint32_t number, struct scenario *out);
void scenario_fini(struct scenario *s);
/* One line for a person. */
void scenario_print(const struct scenario *s);

#endif
