/* The two real servers as children, in a directory of their own, on loopback ports that were free. */
#ifndef DECANT_TESTS_BENCH_LOAD_SERVERS_H
#define DECANT_TESTS_BENCH_LOAD_SERVERS_H

#include <stdbool.h>
#include <sys/types.h>
#include "proto/run_config.h"

struct servers {
    char directory[64];
    pid_t parameter, prototype; /* 0: not ours, or gone */
};

/* Starts both from the directory `programs` ("build/bin"); fills in run.out and the net.* keys. 0 or ERR_*. */
int servers_start(struct servers *s, const char *programs, struct run_config *c, struct error *e);
/* True when both have ended by themselves, with exit code 0, within the time given. */
bool servers_ended_well(struct servers *s, unsigned timeout_ms);
/* Kills what still runs. keep: their directory, with logs, stays and is named on stderr. */
void servers_end(struct servers *s, bool keep);

#endif
