/* A picture as SVG 1.1 text: paths, circles and texts, nothing outside the file. */
#ifndef DECANT_CLI_SVG_WRITE_H
#define DECANT_CLI_SVG_WRITE_H

#include "cli/plot_canvas.h"
#include "common/error.h"

/* text: *size bytes, free() it. title is what screen readers say. Whatever the texts hold, the file is well-formed:
 * bytes beyond ASCII, of which nobody knows the encoding, and control characters become '?'. 0 or ERR_MEMORY. */
int svg_write(const struct plot_canvas *c, const char *title, char **text, size_t *size, struct error *e);

#endif
