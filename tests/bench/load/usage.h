/* What the kernel says of a process: CPU time by thread, memory. */
#ifndef DECANT_TESTS_BENCH_LOAD_USAGE_H
#define DECANT_TESTS_BENCH_LOAD_USAGE_H

#include <stddef.h>
#include <sys/types.h>

enum { USAGE_THREADS_MAX = 64 };

struct usage {
    double seconds; /* CPU, all threads */
    size_t threads;
    struct usage_thread {
        pid_t id;
        char name[16];
        double seconds;
    } thread[USAGE_THREADS_MAX];
};
void usage_read(pid_t pid, struct usage *u); /* a process that is gone has used nothing */

/* Between two readings: CPU seconds of all threads; name and seconds of the busiest. */
struct usage_span {
    double seconds, busiest;
    char name[16];
};
struct usage_span usage_between(const struct usage *before, const struct usage *after);

double usage_machine(void);       /* CPU seconds of all processes since the machine started */
double usage_peak_mib(pid_t pid); /* most memory that it ever held */

#endif
