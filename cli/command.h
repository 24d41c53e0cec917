/* The subcommands of `decant`. Each takes its own argument vector (argv[0] is its name), prints data on stdout and
 * everything else on stderr, and returns the exit code. */
#ifndef DECANT_CLI_COMMAND_H
#define DECANT_CLI_COMMAND_H

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include "common/error.h"

enum command_exit {
    COMMAND_DONE = 0,
    COMMAND_FAILED = 1,
    COMMAND_USAGE = 2,
    COMMAND_DIVERGED = 3,      /* decant train: numbers that are not finite; a new attempt would end the same way */
    COMMAND_INTERRUPTED = 130, /* as shells report a process that SIGINT ended */
};

int command_train(int argc, char **argv);
int command_eval(int argc, char **argv);
int command_serve_mixture(int argc, char **argv);
int command_status(int argc, char **argv);
int command_prototypes(int argc, char **argv);
int command_dataset(int argc, char **argv);
int command_config(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_health(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_export(int argc, char **argv);
int command_resume(int argc, char **argv);
int command_stop(int argc, char **argv);
int command_top(int argc, char **argv);
int command_dashboard(int argc, char **argv);
int command_plot(int argc, char **argv);
int command_import(int argc, char **argv);
int command_embed(int argc, char **argv);
int command_neighbours(int argc, char **argv);
int command_keygen(int argc, char **argv);

/* "decant NAME: text" and where help is; COMMAND_USAGE. */
int command_usage(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The options of one subcommand. */
struct command_options {
    const char *name, *help;      /* help: printed by --help */
    const struct option *options; /* ends with a zero entry; --help is val 'h' */
    /* One option, with getopt's optarg: -1 to go on, else the exit code, having said why. line: the caller's own. */
    int (*take)(int option, void *line);
    int arguments_max; /* what may follow the options */
};

/* Takes all options of argv. Those that are unknown, lack their value, or have one that looks like another option, are
 * refused, the nearest known being named; --help is answered. -1 to go on, the arguments being argv[optind] to the end,
 * else the exit code. */
int command_take_options(const struct command_options *o, int argc, char **argv, void *line);
/* Reports an error of the library: COMMAND_USAGE for configuration, else COMMAND_FAILED. */
int command_failed(const char *name, const struct error *e);
/* f is a terminal that may be coloured: NO_COLOR (https://no-color.org) is not set. */
bool command_colours(FILE *f);
/* A whole number in [min, max] from an option's argument. */
int command_number(const char *text, long long min, long long max, long long *out);
/* Seconds, with decimals, in [min, max]. */
int command_seconds(const char *text, double min, double max, double *out);

#endif
