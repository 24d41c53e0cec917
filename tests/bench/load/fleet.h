/* W real worker sessions in one process and on one loop, each with sockets of its own, whose slots take a given time
 * instead of being computed; and what it measured of the servers' answers.
 *
 * Two clocks say when a slot is done: `compute_us` after it began; and with a rate, not before its share of the step's
 * time is over, t / rate from the start. So the rate is reached as long as the servers keep up, and all workers send at
 * the same moment, as equal machines do. A fleet that is late goes as fast as it can. */
#ifndef DECANT_TESTS_BENCH_LOAD_FLEET_H
#define DECANT_TESTS_BENCH_LOAD_FLEET_H

#include "proto/run_config.h"
#include "tests/bench/load/material.h"
#include "tests/bench/load/samples.h"
#include "tests/bench/load/usage.h"

struct fleet_options {
    const struct run_config *config; /* net.*, run.*, mixture.* */
    const struct material *material;
    uint32_t workers;
    double rate;                /* steps/s aimed at; 0: as fast as the servers go */
    uint64_t compute_us;        /* of one slot, at least */
    double warm_s, seconds;     /* not measured; measured at most */
    pid_t parameter, prototype; /* to be watched; 0: elsewhere */
};

struct fleet_server { /* while measured */
    struct usage_span cpu;
    double bytes_in, bytes_out; /* of messages */
};

struct fleet_result {
    double seconds;        /* measured */
    uint64_t steps;        /* finished in them */
    uint64_t step;         /* reached, from the beginning */
    uint32_t done, failed; /* workers that heard STOP; that gave up */
    struct fleet_server parameter, prototype;
    struct usage_span generator;
    double others;                   /* CPU seconds of everything else on this machine, meanwhile */
    struct samples lease_to_weights; /* LEASE of step t -> WEIGHTS t+1, seconds */
    struct samples sync;             /* own GRADIENT of step t sent -> WEIGHTS t+1 */
    struct samples ack;              /* GRADIENT sent -> ACK */
    struct samples stats_ack;        /* STATS sent -> ACK */
    /* from the beginning: */
    uint64_t applied, duplicates, stale; /* ACKs of gradients and statistics */
    uint64_t refused[REASON_END];        /* ERRORs, by reason */
    double leases_expired;               /* as the parameter server counts them */
};

/* 0, or ERR_*: then the result is empty. */
int fleet_run(const struct fleet_options *o, struct fleet_result *out, struct error *e);
void fleet_result_fini(struct fleet_result *r);

#endif
