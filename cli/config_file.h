/* OUT/config.ini: the resolved configuration of a run, for the processes that are started and for whoever goes on with
 * the run, from wherever. */
#ifndef DECANT_CLI_CONFIG_FILE_H
#define DECANT_CLI_CONFIG_FILE_H

#include "common/error.h"
#include "proto/run_config.h"

/* Paths in it are absolute. What was accepted (run.accept_data) is accepted this once, and not written. */
int config_file_write(const struct run_config *c, const char *path, struct error *e);

#endif
