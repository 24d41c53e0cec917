/* The newest figures in a metrics-*.jsonl file: lines of several kinds alternate there, so the last ones are merged,
 * later values over earlier. Only the end of the file is read. */
#ifndef DECANT_CLI_METRICS_TAIL_H
#define DECANT_CLI_METRICS_TAIL_H

#include "cli/run_figures.h"
#include "common/error.h"

/* age_s: seconds since the file was last written. A last line that is not complete yet is left out, as are values that
 * are no numbers. ERR_NOT_FOUND, ERR_IO; ERR_FORMAT when there are lines, but none with a figure. */
int metrics_tail_read(const char *path, struct run_figures *out, double *age_s, struct error *e);

#endif
