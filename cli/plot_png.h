/* A picture as PNG, drawn by cairo. */
#ifndef DECANT_CLI_PLOT_PNG_H
#define DECANT_CLI_PLOT_PNG_H

#include "cli/plot_canvas.h"
#include "common/error.h"

/* bytes: *size of them, free() it. scale: pixels of the file to one of the canvas. ERR_MEMORY. */
int plot_png(const struct plot_canvas *c, double scale, char **bytes, size_t *size, struct error *e);

#endif
