/* Cosine curves over t / T. */
#include "server/parameter/schedule.h"

#include <math.h>

/* Falls from 1 at t = 0 to 0 at t = T. */
static double half_cosine(const struct schedule *s, uint64_t t)
{
    return 0.5 * (1.0 + cos(M_PI * (double)t / (double)s->steps));
}

double schedule_lr(const struct schedule *s, uint64_t t)
{
    double warm = t + 1 < s->warmup ? (double)(t + 1) / (double)s->warmup : 1.0;
    return s->lr * warm * (s->lr_end + (1.0 - s->lr_end) * half_cosine(s, t));
}

double schedule_ema(const struct schedule *s, uint64_t t)
{
    return s->ema_end + (s->ema_start - s->ema_end) * half_cosine(s, t);
}
