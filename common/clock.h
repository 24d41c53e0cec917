/* The wall clock, for what people read: it may step. Durations are measured with the loop's clock instead. */
#ifndef DECANT_COMMON_CLOCK_H
#define DECANT_COMMON_CLOCK_H

double unix_time(void); /* seconds since 1970-01-01 UTC */

#endif
