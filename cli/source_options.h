/* The options by which `status` and `prototypes` name a source. */
#ifndef DECANT_CLI_SOURCE_OPTIONS_H
#define DECANT_CLI_SOURCE_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include "cli/run_source.h"

#define SOURCE_OPTIONS                                                                                                 \
    {"run", required_argument, NULL, 'n'}, {"redis", required_argument, NULL, 'R'},                                    \
        {"out", required_argument, NULL, 'o'}, {"checkpoint", required_argument, NULL, 'o'},                           \
    {                                                                                                                  \
        "help", no_argument, NULL, 'h'                                                                                 \
    }

#define SOURCE_OPTIONS_HELP                                                                                            \
    "  --run NAME         name of the run (default)\n"                                                                 \
    "  --redis ADDRESS    the Redis it is mirrored to: HOST:PORT, redis://USER:PASSWORD@HOST:PORT/DB or a socket's "   \
    "path\n"                                                                                                           \
    "  --out DIR          the run's directory (runs/NAME): its private Redis while it runs, else its checkpoint\n"     \
    "  --checkpoint DIR   the same, or a checkpoints or step directory\n"

/* Takes one of SOURCE_OPTIONS; others are ignored. A password in the argument is blotted out. */
void source_option_take(int option, char *argument, struct source_options *out);

#endif
