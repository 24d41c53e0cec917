/* A run as the commands' argument RUN: its directory (or one below that, where a command takes checkpoints), or its
 * name below runs/. What has a slash is a directory; else the name of a run that is there comes before a directory. */
#ifndef DECANT_CLI_RUN_ARGUMENT_H
#define DECANT_CLI_RUN_ARGUMENT_H

#include <stdbool.h>
#include "cli/step_list.h"

#define RUN_ARGUMENT_HELP "  RUN                a run's directory, or its name below runs/\n"

/* The directory that text means; ERR_RANGE when it is too long. */
int run_argument_directory(const char *text, char out[CHECKPOINT_PATH_MAX]);
/* The same of --checkpoint DIR, where a directory comes before the name of a run. */
int run_argument_checkpoint(const char *text, char out[CHECKPOINT_PATH_MAX]);
/* What follows the options (argv[optind]), if anything: out is empty when nothing does. -1 to go on, else the exit
 * code, having said why: too long, or the run was named by an option as well, which `named` says. */
int run_argument_take(const char *command, int argc, char **argv, bool named, char out[CHECKPOINT_PATH_MAX]);
/* The i-th of several; -1, or the exit code of one that is empty or too long. */
int run_argument_at(const char *command, char **argv, int i, char out[CHECKPOINT_PATH_MAX]);

#endif
