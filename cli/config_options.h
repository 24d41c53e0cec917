/* The options by which `doctor` and `health` name a configuration. */
#ifndef DECANT_CLI_CONFIG_OPTIONS_H
#define DECANT_CLI_CONFIG_OPTIONS_H

#include <getopt.h>
#include <stddef.h>
#include "proto/run_config.h"

#define CONFIG_OPTIONS                                                                                                 \
    {"config", required_argument, NULL, 'c'},                                                                          \
    {                                                                                                                  \
        "set", required_argument, NULL, 's'                                                                            \
    }

#define CONFIG_OPTIONS_HELP                                                                                            \
    "  --config FILE     configuration (INI); environment and --set override it\n"                                     \
    "  --set KEY=VALUE   one configuration key; may be repeated\n"

enum { CONFIG_SETS_MAX = 64 };

struct config_options {
    const char *file; /* NULL: not given */
    const char *sets[CONFIG_SETS_MAX];
    size_t set_count;
};

/* -1 when it was one of CONFIG_OPTIONS, 0 when it was not; else the exit code, having said why. name: of the command.
 */
int config_option_take(const char *name, int option, const char *argument, struct config_options *out);
int config_options_load(const struct config_options *o, struct run_config *out, struct error *e);

#endif
