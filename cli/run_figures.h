/* The figures of a run as name and text, whichever source they come from; names are those of docs/REDIS.md. */
#ifndef DECANT_CLI_RUN_FIGURES_H
#define DECANT_CLI_RUN_FIGURES_H

#include <stddef.h>
#include "cli/run_source.h"

enum { FIGURES_MAX = 64 };

struct run_figure {
    char name[48], value[128];
};

struct run_figures {
    struct run_figure items[FIGURES_MAX];
    size_t count;
};

int run_figures_read(struct run_source *s, struct run_figures *out, struct error *e);
/* Adds a figure, or replaces the one of that name. Further ones than FIGURES_MAX are left out: a later version may have
 * more than a screen holds. */
void run_figures_set(struct run_figures *f, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
double run_figures_number(const struct run_figures *f, const char *name);    /* NaN when absent or not a number */
const char *run_figures_find(const struct run_figures *f, const char *name); /* NULL when absent */

#endif
