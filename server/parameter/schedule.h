/* What changes with the step: learning rate and teacher momentum. Pure functions, so that a resumed run continues on
 * exactly the same curve. Formulas: docs/design/0001-first-slice.md. */
#ifndef DECANT_SERVER_PARAMETER_SCHEDULE_H
#define DECANT_SERVER_PARAMETER_SCHEDULE_H

#include <stdint.h>

struct schedule {
    double lr;                 /* peak learning rate */
    double lr_end;             /* final learning rate as a share of the peak */
    uint64_t warmup;           /* steps of linear warm-up; 0 starts at the peak */
    double ema_start, ema_end; /* teacher momentum at the first and at the last step */
    uint64_t steps;            /* T, > 0 */
};

/* lr(t) = lr min(1, (t+1)/warmup) (lr_end + (1 - lr_end) 1/2 (1 + cos(pi t / T))) */
double schedule_lr(const struct schedule *s, uint64_t t);
/* m(t) = ema_end + (ema_start - ema_end) 1/2 (1 + cos(pi t / T)) */
double schedule_ema(const struct schedule *s, uint64_t t);

#endif
