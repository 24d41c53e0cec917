/* What a training run shows while it goes on, put together from the two servers' published metrics into one line. */
#ifndef DECANT_CLI_PROGRESS_H
#define DECANT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/msg.h"
#include "proto/run_config.h"

enum { PROGRESS_LINE_MAX = 256 };

struct progress {
    const struct run_config *config;
    uint64_t step; /* completed, newest heard of */
    double epoch;  /* passes over the data; negative when unknown */
    double loss, consistency, entropy, mean_entropy, coding_rate, feature_rate, images_per_s, workers;
    double unique_0025, unique_01, active; /* percent */
    bool trained, measured;                /* step to workers, and unique to active, are known */
    uint64_t first_step;                   /* when this launcher began to watch, and when (ms) */
    uint64_t first_ms, step_ms;            /* step_ms: when the newest step was heard of */
};

void progress_init(struct progress *p, const struct run_config *config);
/* One METRICS message of either server, at now_ms. Others are ignored. */
void progress_on_metrics(struct progress *p, const struct msg *m, uint64_t now_ms);
/* Steps of the run, 0 while unknown. */
uint64_t progress_total(const struct progress *p);
/* The last step is computed, as far as is known. */
bool progress_is_over(const struct progress *p);
/* "epoch 1.3/10  step 300/2340  5m10s left  loss 5.12 (consistency 6.71, entropy -0.53; ln K 6.93) ..."; false before
 * the first step. */
bool progress_line(const struct progress *p, char out[PROGRESS_LINE_MAX]);
/* "45s", "3m20s", "1h05m". */
void progress_duration(double seconds, char *out, size_t size);

#endif
