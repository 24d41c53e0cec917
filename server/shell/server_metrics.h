/* What both servers show of themselves under /metrics and /healthz, with the same names: Prometheus tells them apart by
 * job. Also the two small records behind it, which the servers keep on their loop. docs/OPERATIONS.md lists the
 * metrics. */
#ifndef DECANT_SERVER_SHELL_SERVER_METRICS_H
#define DECANT_SERVER_SHELL_SERVER_METRICS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "common/error.h"
#include "common/exposition.h"
#include "common/net.h"
#include "server/shell/door.h"
#include "proto/run_config.h"

/* How steps went by in this process. */
struct step_clock {
    uint64_t step, at_ms; /* the newest step, and when it was reached */
    uint64_t steps;       /* completed here; going back takes none away */
    struct histogram seconds;
};

void step_clock_start(struct step_clock *c, uint64_t step, uint64_t now_ms);
/* Where the server stands now; a step back starts anew from there. */
void step_clock_note(struct step_clock *c, uint64_t step, uint64_t now_ms);

/* How writing checkpoints went. */
struct checkpoint_record {
    uint64_t step;     /* the newest that is on disk, or that was resumed from; 0 before */
    uint64_t at_ms;    /* when that was; the start of the process before */
    uint64_t failures; /* writes that failed */
    bool failing;      /* the newest write did */
    char cause[256];   /* of failing */
};

void checkpoint_record_start(struct checkpoint_record *r, uint64_t step, uint64_t now_ms);
/* A write ended with result->code. */
void checkpoint_record_note(struct checkpoint_record *r, uint64_t step, const struct error *result, uint64_t now_ms);

struct server_figures {
    enum server server;
    const struct run_config *config; /* of the run's name, and which configuration it is */
    uint64_t generation;
    uint64_t total_steps; /* 0: not known yet */
    uint64_t now_ms;
    size_t workers;
    uint64_t applied, duplicates, stale; /* contributions, by what became of them */
    uint64_t rewinds;
    uint64_t metrics_lost;   /* lines of the metrics file */
    const uint64_t *refused; /* (REASON_END), by reason */
    const struct step_clock *clock;
    const struct checkpoint_record *checkpoint;
    const struct net_socket *requests, *publications;
    const struct door *door;
};

void server_metrics_write(const struct server_figures *f, struct exposition *x);
/* The object of /healthz. Failing with `reason`; with the last checkpoint when reason is NULL and that failed; else
 * fine. NULL when out of memory. */
json_t *server_health(const struct server_figures *f, const char *reason, bool *ok);

#endif
