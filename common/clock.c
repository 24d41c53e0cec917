/* Reading of the wall clock. */
#include "common/clock.h"

#include <time.h>

double unix_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
