/* Reads /proc. Ticks are 10 ms: spans should last seconds. */
#include "tests/bench/load/usage.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The name stands in brackets and may hold anything; utime and stime are the 12th and 13th fields behind it. */
static int read_thread(pid_t pid, const char *id, struct usage_thread *t)
{
    char path[64], line[1024];
    unsigned long user, system;
    snprintf(path, sizeof path, "/proc/%d/task/%.16s/stat", pid, id);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return -1;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = '\0';
    char *open = strchr(line, '('), *close = strrchr(line, ')');
    if (open == NULL || close == NULL ||
        sscanf(close + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return -1;
    t->id = atoi(id);
    snprintf(t->name, sizeof t->name, "%.*s", (int)(close - open - 1), open + 1);
    t->seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    return 0;
}

void usage_read(pid_t pid, struct usage *u)
{
    char path[64];
    memset(u, 0, sizeof *u);
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(tasks)) != NULL && u->threads < USAGE_THREADS_MAX) {
        struct usage_thread *t = &u->thread[u->threads];
        if (entry->d_name[0] == '.' || read_thread(pid, entry->d_name, t) != 0)
            continue;
        u->seconds += t->seconds;
        u->threads++;
    }
    closedir(tasks);
}

static double seconds_of(const struct usage *u, pid_t id)
{
    for (size_t i = 0; i < u->threads; i++)
        if (u->thread[i].id == id)
            return u->thread[i].seconds;
    return 0;
}

struct usage_span usage_between(const struct usage *before, const struct usage *after)
{
    struct usage_span span = {.seconds = after->seconds - before->seconds};
    for (size_t i = 0; i < after->threads; i++) {
        const struct usage_thread *t = &after->thread[i];
        double seconds = t->seconds - seconds_of(before, t->id);
        if (seconds < span.busiest)
            continue;
        span.busiest = seconds;
        memcpy(span.name, t->name, sizeof span.name);
    }
    return span;
}

double usage_machine(void)
{
    double user = 0, nice = 0, system = 0, irq = 0, softirq = 0, steal = 0;
    FILE *f = fopen("/proc/stat", "r");
    if (f == NULL)
        return 0;
    if (fscanf(f, "cpu %lf %lf %lf %*f %*f %lf %lf %lf", &user, &nice, &system, &irq, &softirq, &steal) != 6)
        user = nice = system = irq = softirq = steal = 0;
    fclose(f);
    return (user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
}

double usage_peak_mib(pid_t pid)
{
    char path[64], line[256];
    double kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kib / 1024;
}
