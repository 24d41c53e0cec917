/* The eyes of the launcher: subscribes to both servers' metrics and shows one line of progress. On a terminal the line
 * is drawn over itself; elsewhere (a file, a CI log) a line is added every ten seconds. */
#ifndef DECANT_CLI_LAUNCH_WATCH_H
#define DECANT_CLI_LAUNCH_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <uv.h>
#include "cli/progress.h"
#include "common/error.h"
#include "common/net.h"
#include "proto/server.h"

struct launch_watch;

struct launch_source { /* one server's publications */
    struct launch_watch *watch;
    enum server server;
    struct net_socket *socket;
    uint64_t generation; /* that the run's directory knew of when it was last asked */
};

struct launch_watch {
    struct net *net;
    struct launch_source parameter, prototype;
    struct progress progress;
    uv_loop_t *loop;
    FILE *log;
    bool terminal; /* log is one */
    const struct run_config *config;
    bool refused;       /* a server refused us, which was said */
    bool drawn;         /* a progress line stands on the terminal's current row */
    uint64_t opened_ms; /* loop time */
    uint64_t shown_ms;  /* when progress was last shown, loop time */
    uint64_t shown_step;
};

/* config outlives the watch; joint runs have no prototype server. */
int launch_watch_open(struct launch_watch *w, uv_loop_t *loop, const struct run_config *config, bool joint, FILE *log,
                      struct error *e);
void launch_watch_tick(struct launch_watch *w); /* shows progress when it is time to */
/* A worker has read so many of its images; shown likewise, until the first step is known. */
void launch_watch_loading(struct launch_watch *w, uint64_t done, uint64_t total);
void launch_watch_clear(struct launch_watch *w); /* call before anything else is printed to log */
/* Closes the sockets on the loop; after the loop has run out, launch_watch_fini. */
void launch_watch_close(struct launch_watch *w);
void launch_watch_fini(struct launch_watch *w);

#endif
