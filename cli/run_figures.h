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
const char *run_figures_find(const struct run_figures *f, const char *name); /* NULL when absent */

#endif
