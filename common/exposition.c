/* Written through a memory stream, which grows by itself and remembers its failure. */
#include "common/exposition.h"

#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>
#include "common/error.h"

const double histogram_bounds[HISTOGRAM_BOUNDS] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

void exposition_begin(struct exposition *x)
{
    *x = (struct exposition){0};
    x->stream = open_memstream(&x->text, &x->size);
}

void exposition_family(struct exposition *x, const char *name, const char *type, const char *help)
{
    x->family = name;
    if (x->stream)
        fprintf(x->stream, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* The format spells infinities and NaN in its own way. */
static void write_number(FILE *f, double value)
{
    if (isnan(value))
        fputs("NaN", f);
    else if (isinf(value))
        fputs(value > 0 ? "+Inf" : "-Inf", f);
    else
        fprintf(f, "%.15g", value);
    fputc('\n', f);
}

void exposition_value(struct exposition *x, double value, const char *labels, ...)
{
    va_list args;
    if (!x->stream)
        return;
    fprintf(x->stream, "%s{", x->family);
    va_start(args, labels);
    vfprintf(x->stream, labels, args);
    va_end(args);
    fputs("} ", x->stream);
    write_number(x->stream, value);
}

void exposition_single(struct exposition *x, const char *name, const char *type, const char *help, double value)
{
    exposition_family(x, name, type, help);
    if (!x->stream)
        return;
    fprintf(x->stream, "%s ", name);
    write_number(x->stream, value);
}

int exposition_end(struct exposition *x, char **text, size_t *size)
{
    bool written = x->stream && !ferror(x->stream);
    if (x->stream && fclose(x->stream) != 0)
        written = false;
    x->stream = NULL;
    *text = x->text;
    *size = x->size;
    if (written)
        return 0;
    free(x->text);
    *text = NULL;
    return ERR_MEMORY;
}

/* ---- histograms ---- */

void histogram_add(struct histogram *h, double seconds)
{
    size_t i = 0;
    while (i < HISTOGRAM_BOUNDS && seconds > histogram_bounds[i])
        i++;
    h->counts[i]++;
    h->sum += seconds;
}

void exposition_histogram(struct exposition *x, const char *name, const char *help, const struct histogram *h)
{
    uint64_t below = 0;
    exposition_family(x, name, "histogram", help);
    if (!x->stream)
        return;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        below += h->counts[i];
        fprintf(x->stream, "%s_bucket{le=\"%g\"} %llu\n", name, histogram_bounds[i], (unsigned long long)below);
    }
    below += h->counts[HISTOGRAM_BOUNDS];
    fprintf(x->stream, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.15g\n%s_count %llu\n", name, (unsigned long long)below,
            name, h->sum, name, (unsigned long long)below);
}

/* ---- the process ---- */

/* Unix time of the process's start, from its age; NAN when /proc does not say. */
static double start_time(void)
{
    char text[1024] = "";
    double up, now = (double)time(NULL);
    unsigned long long ticks;
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    const char *after_name = strrchr(text, ')'); /* the name may hold anything, also ")" */
    if (!after_name || uv_uptime(&up) != 0 ||
        sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &ticks) != 1)
        return NAN;
    return now - (up - (double)ticks / (double)sysconf(_SC_CLK_TCK));
}

static double open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    double n = -3; /* ".", "..", and the directory's own */
    if (!d)
        return NAN;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void single_if_known(struct exposition *x, const char *name, const char *type, const char *help, double value)
{
    if (!isnan(value))
        exposition_single(x, name, type, help, value);
}

void exposition_process(struct exposition *x)
{
    size_t resident;
    uv_rusage_t u;
    if (uv_resident_set_memory(&resident) == 0)
        exposition_single(x, "process_resident_memory_bytes", "gauge", "Resident memory.", (double)resident);
    if (uv_getrusage(&u) == 0)
        exposition_single(x, "process_cpu_seconds_total", "counter", "Processor time, user and system.",
                          (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                              1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
    single_if_known(x, "process_start_time_seconds", "gauge", "Start of the process, Unix time.", start_time());
    single_if_known(x, "process_open_fds", "gauge", "Open file descriptors.", open_descriptors());
}
