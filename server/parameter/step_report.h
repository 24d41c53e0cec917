/* What the parameter server tells about a step: as a METRICS message for subscribers and as a JSON line for the metrics
 * file. Both carry the same names. */
#ifndef DECANT_SERVER_PARAMETER_STEP_REPORT_H
#define DECANT_SERVER_PARAMETER_STEP_REPORT_H

#include <stdint.h>
#include "proto/msg.h"
#include "server/parameter/gradients.h"

/* Positions in a gradient's "metrics" tensor. */
enum step_report_metric {
    METRIC_LOSS,
    METRIC_CONSISTENCY,
    METRIC_ENTROPY,
    METRIC_IMAGES,
    METRIC_AUGMENT_S,
    METRIC_FORWARD_S,
    METRIC_BACKWARD_S,
    METRIC_ESTEP_S,
    METRIC_MEAN_ENTROPY,
    METRIC_CODING_RATE,
    METRIC_FEATURE_RATE,
    METRIC_END
};

/* Since the start of the process. Those that are 0 are not reported. */
struct step_report_counters {
    uint64_t applied;             /* contributions added up, messages; not in reports */
    uint64_t applied_slots;       /* slots of these; not in reports */
    uint64_t duplicates;          /* contributions that were already held */
    uint64_t stale;               /* contributions whose step was over */
    uint64_t leases_expired;      /* by time, or because the worker went away */
    uint64_t workers_lost;        /* workers that fell silent without a goodbye; not in reports */
    uint64_t rewinds;             /* times that the run went back because the prototype server had lost statistics */
    uint64_t steps_skipped;       /* updates not made because the summed gradient overflowed */
    uint64_t refused[REASON_END]; /* messages answered with ERROR, by reason */
};

struct step_report {
    uint64_t step;                     /* steps completed, the newest of which the values are of */
    double epoch;                      /* passes over the data so far; negative when unknown */
    double loss, consistency, entropy; /* means over slots */
    /* Likewise; 0 when the loss does not have that term: not reported. */
    double mean_entropy, coding_rate, feature_rate;
    double augment, forward, backward, estep; /* shares of the time that workers reported */
    double lr, ema, grad_norm;                /* of the step; the norm before clipping */
    double images_per_s, step_ms;             /* over the steps since the report before */
    double workers;                           /* live */
    struct step_report_counters counters;
};

/* Means and shares, from sums over `slots` slots. */
void step_report_set_metrics(struct step_report *r, const double metrics[GRADIENT_METRICS_MAX], double slots);
void step_report_to_msg(const struct step_report *r,
                        struct msg *m); /* step and scalars of an initialised METRICS message */
/* One JSON object without a newline, or NULL when out of memory; free() it. Values that JSON cannot say are left out.
 */
char *step_report_to_json(const struct step_report *r);

#endif
