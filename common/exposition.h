/* The Prometheus text format, version 0.0.4: families of samples, written in order into memory.
 *
 *   struct exposition x;
 *   exposition_begin(&x);
 *   exposition_single(&x, "app_step", "gauge", "Steps completed.", 120);
 *   exposition_family(&x, "app_messages_total", "counter", "Messages.");
 *   exposition_value(&x, 7, "direction=\"%s\"", "in");
 *   if (exposition_end(&x, &text, &size) == 0) ... free(text);
 *
 * Names and help are literals; the caller makes sure that label values hold neither '"' nor '\' nor a newline. */
#ifndef DECANT_COMMON_EXPOSITION_H
#define DECANT_COMMON_EXPOSITION_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define EXPOSITION_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct exposition {
    FILE *stream; /* NULL when memory ran out */
    char *text;
    size_t size;
    const char *family; /* of the samples that follow */
};

void exposition_begin(struct exposition *x);
/* type: "counter", "gauge" or "histogram". */
void exposition_family(struct exposition *x, const char *name, const char *type, const char *help);
/* A sample of the family; labels is printf's. */
void exposition_value(struct exposition *x, double value, const char *labels, ...)
    __attribute__((format(printf, 3, 4)));
/* A family of one sample without labels. */
void exposition_single(struct exposition *x, const char *name, const char *type, const char *help, double value);
/* Ends it; 0 and text (size bytes) to free(), or ERR_MEMORY. */
int exposition_end(struct exposition *x, char **text, size_t *size);

/* Durations from 10 ms to a minute. */
enum { HISTOGRAM_BOUNDS = 12 };
extern const double histogram_bounds[HISTOGRAM_BOUNDS]; /* seconds, inclusive */

struct histogram {
    uint64_t counts[HISTOGRAM_BOUNDS + 1]; /* by the first bound that is not less; the last is for what exceeds all */
    double sum;                            /* seconds */
};

void histogram_add(struct histogram *h, double seconds);
void exposition_histogram(struct exposition *x, const char *name, const char *help, const struct histogram *h);

/* The families process_*: memory, processor time, descriptors, start. What /proc does not tell is left out. */
void exposition_process(struct exposition *x);

#endif
