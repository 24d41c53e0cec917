/* A METRICS message as a line of OUT/metrics-prototype.jsonl, in the order of publication: {"time":..., "step":...,
 * scalars...}. Two kinds of lines: the figures of a step, every run.log_every steps, and the figures of a diagnostics
 * pass (those with unique_0025), whose step and version are those of the mixture it looked at. After a resume, steps
 * may occur again. */
#ifndef DECANT_SERVER_PROTOTYPE_METRICS_LINE_H
#define DECANT_SERVER_PROTOTYPE_METRICS_LINE_H

#include "proto/msg.h"

/* Without its newline, to be freed; NULL when out of memory. time: Unix seconds. */
char *metrics_line(const struct msg *metrics, double time);

#endif
