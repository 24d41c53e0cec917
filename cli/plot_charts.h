/* The pictures of `decant plot`: those of the dashboard, on white. */
#ifndef DECANT_CLI_PLOT_CHARTS_H
#define DECANT_CLI_PLOT_CHARTS_H

#include "cli/dashboard_run.h"
#include "cli/plot_canvas.h"

struct plot_chart {
    const char *name, *title; /* of the file, without its ending; of the picture */
    /* False when the run has nothing to draw here. The canvas is initialised by it, and to be freed in any case. */
    bool (*draw)(const struct plot_chart *chart, const struct dashboard_run *r, struct plot_canvas *c);
};

enum { PLOT_CHARTS = 6 };
extern const struct plot_chart plot_charts[PLOT_CHARTS];

#endif
