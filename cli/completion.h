/* Shell completion. Commands come from the caller's table; options and their choices from `decant COMMAND --help` at
 * the moment of completion, and configuration keys from `decant config`, so that the script never gets old. */
#ifndef DECANT_CLI_COMPLETION_H
#define DECANT_CLI_COMPLETION_H

#include <stddef.h>
#include <stdio.h>

struct completion_command {
    const char *name, *summary;
};

/* A script for the shell's startup file. */
void completion_bash(const struct completion_command *commands, size_t n, FILE *f);
void completion_zsh(const struct completion_command *commands, size_t n, FILE *f);

#endif
