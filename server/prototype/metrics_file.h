/* OUT/metrics-prototype.jsonl: one JSON object per METRICS message, in the order of publication: {"time":...,
 * "step":..., scalars...}. Two kinds of lines: the figures of a step, every run.log_every steps, and the figures of a
 * diagnostics pass (those with unique_0025), whose step and version are those of the mixture it looked at. After a
 * resume, steps may occur again. */
#ifndef DECANT_SERVER_PROTOTYPE_METRICS_FILE_H
#define DECANT_SERVER_PROTOTYPE_METRICS_FILE_H

#include "common/error.h"
#include "proto/msg.h"

struct prototype_metrics;

int prototype_metrics_open(const char *out, struct prototype_metrics **file, struct error *e);
/* Appends a line; time: Unix seconds. Trouble with the disk is logged once and never stops the run. */
void prototype_metrics_append(struct prototype_metrics *f, const struct msg *metrics, double time);
void prototype_metrics_close(struct prototype_metrics **f);

#endif
