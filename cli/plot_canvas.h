/* A picture as a list of shapes, which svg_write.h and plot_png.h put into files: both then show the same. Coordinates
 * are pixels, y downwards. Lack of memory is remembered and reported by whoever writes the picture. */
#ifndef DECANT_CLI_PLOT_CANVAS_H
#define DECANT_CLI_PLOT_CANVAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum plot_kind { PLOT_PATH, PLOT_CIRCLE, PLOT_TEXT };
enum plot_anchor { PLOT_START, PLOT_MIDDLE, PLOT_END };
enum { PLOT_TEXT_MAX = 96 };

struct plot_style {
    uint32_t stroke, fill; /* 0xRRGGBB; not drawn when its opacity is 0 */
    double stroke_opacity, fill_opacity, width;
    double dash; /* length of dashes and gaps; 0: solid */
};

struct plot_item {
    enum plot_kind kind;
    struct plot_style style;
    size_t first, count; /* path: of points; circle and text: count is 1 */
    bool closed;         /* path */
    double size;         /* circle: radius; text: font size */
    enum plot_anchor anchor;
    char text[PLOT_TEXT_MAX];
};

struct plot_point {
    double x, y;
};

struct plot_canvas {
    double width, height;
    struct plot_item *items;
    struct plot_point *points;
    size_t item_count, item_room, point_count, point_room;
    bool failed;
};

void plot_canvas_init(struct plot_canvas *c, double width, double height);
void plot_canvas_fini(struct plot_canvas *c);

/* A path is begun, then gets its points. */
void plot_path(struct plot_canvas *c, const struct plot_style *style, bool closed);
void plot_to(struct plot_canvas *c, double x, double y);
void plot_line(struct plot_canvas *c, const struct plot_style *style, double x1, double y1, double x2, double y2);
void plot_box(struct plot_canvas *c, const struct plot_style *style, double x, double y, double width, double height);
void plot_circle(struct plot_canvas *c, const struct plot_style *style, double x, double y, double radius);
void plot_text(struct plot_canvas *c, uint32_t colour, double x, double y, double size, enum plot_anchor anchor,
               const char *format, ...) __attribute__((format(printf, 7, 8)));

#endif
