/* The command line that the servers and the worker share: which configuration to load, whether to resume, how much to
 * log. */
#ifndef DECANT_PROTO_PROCESS_OPTIONS_H
#define DECANT_PROTO_PROCESS_OPTIONS_H

#include <stdbool.h>
#include "common/log.h"
#include "proto/run_config.h"

/* What a process says by its exit. Whoever starts it again needs to know whether that can help. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,   /* the next attempt may do better */
    EXIT_USAGE = 2,    /* command line, configuration, or a damaged file that it read: it would fail again */
    EXIT_DIVERGED = 3, /* the run computes numbers that are not finite: the same bytes, and the same end, come again */
};

struct process_options {
    const char *program; /* "decant-worker": in messages and --help */
    const char *purpose; /* one sentence of --help */
    const char *signals; /* what SIGTERM and SIGINT do: one sentence of --help */
    bool can_resume;     /* takes --resume */
    bool listens;        /* takes --insecure */
    bool trains;         /* has no part in a run that is a stream */
    /* filled in */
    bool resume;
    bool health; /* the subcommand: check whether such a process is well, and exit */
    enum log_level level;
    struct run_config config;
};

/* Parses argv and loads the configuration. Returns -1 to go on, else the exit code; help goes to stdout, errors to
 * stderr. */
int process_options_parse(struct process_options *o, int argc, char **argv);
/* Whether the system allows what a server (listens), or a worker, takes: open files, address space, memory.
 * ERR_CONFIG names the limit. The limit of open files is raised as far as it may be, and so is that of processes
 * started later. */
int process_limits(bool listens, struct error *e);

#endif
