/* The options by which `status` and `prototypes` name a source. */
#ifndef DECANT_CLI_SOURCE_OPTIONS_H
#define DECANT_CLI_SOURCE_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>
#include "cli/run_argument.h"
#include "cli/run_source.h"

#define SOURCE_OPTIONS                                                                                                 \
    {"run", required_argument, NULL, 'n'}, {"redis", required_argument, NULL, 'R'},                                    \
        {"out", required_argument, NULL, 'o'}, {"checkpoint", required_argument, NULL, 'o'},                           \
    {                                                                                                                  \
        "help", no_argument, NULL, 'h'                                                                                 \
    }

#define SOURCE_OPTIONS_HELP                                                                                            \
    RUN_ARGUMENT_HELP                                                                                                  \
    "  --run NAME         its name, where Redis alone knows it (default)\n"                                            \
    "  --redis ADDRESS    the Redis it is mirrored to: HOST:PORT, redis://USER:PASSWORD@HOST:PORT/DB or a "            \
    "socket's "                                                                                                        \
    "path\n"                                                                                                           \
    "  --out DIR          the run's directory (runs/NAME): its private Redis while it runs, else its checkpoint\n"     \
    "  --checkpoint DIR   the same, or a checkpoints or step directory\n"

/* What follows the options, RUN, instead of --run or --out: as run_argument_take. *out must not move afterwards. */
int source_argument_take(const char *command, int argc, char **argv, struct source_options *out);
/* Takes one of SOURCE_OPTIONS; others are ignored. A password in the argument is blotted out. */
void source_option_take(int option, char *argument, struct source_options *out);

#endif
