/* The same list as svg_write.c, drawn into memory. */
#include "cli/plot_png.h"

#include <cairo/cairo.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void set_colour(cairo_t *k, uint32_t colour, double opacity)
{
    cairo_set_source_rgba(k, (colour >> 16 & 255) / 255.0, (colour >> 8 & 255) / 255.0, (colour & 255) / 255.0,
                          opacity);
}

static void paint(cairo_t *k, const struct plot_style *s)
{
    if (s->fill_opacity > 0) {
        set_colour(k, s->fill, s->fill_opacity);
        cairo_fill_preserve(k);
    }
    if (s->stroke_opacity > 0) {
        set_colour(k, s->stroke, s->stroke_opacity);
        cairo_set_line_width(k, s->width);
        cairo_set_line_join(k, CAIRO_LINE_JOIN_ROUND);
        cairo_set_dash(k, &s->dash, s->dash > 0, 0);
        cairo_stroke_preserve(k);
    }
    cairo_new_path(k);
}

static void draw_text(cairo_t *k, const struct plot_item *item, const struct plot_point *at)
{
    cairo_text_extents_t extents;
    cairo_set_font_size(k, item->size);
    cairo_text_extents(k, item->text, &extents);
    double left = item->anchor == PLOT_START    ? 0
                  : item->anchor == PLOT_MIDDLE ? extents.x_advance / 2
                                                : extents.x_advance;
    set_colour(k, item->style.fill, 1);
    cairo_move_to(k, at->x - left, at->y);
    cairo_show_text(k, item->text);
    cairo_new_path(k);
}

static void draw_item(cairo_t *k, const struct plot_canvas *c, const struct plot_item *item)
{
    const struct plot_point *at = &c->points[item->first];
    if (item->kind == PLOT_TEXT) {
        draw_text(k, item, at);
        return;
    }
    if (item->kind == PLOT_CIRCLE)
        cairo_arc(k, at->x, at->y, item->size, 0, 2 * M_PI);
    for (size_t i = 0; item->kind == PLOT_PATH && i < item->count; i++)
        cairo_line_to(k, at[i].x, at[i].y); /* the first one moves */
    if (item->closed)
        cairo_close_path(k);
    paint(k, &item->style);
}

static cairo_status_t take_bytes(void *file, const unsigned char *data, unsigned length)
{
    return fwrite(data, 1, length, file) == length ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

static bool draw_all(const struct plot_canvas *c, double scale, FILE *f)
{
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_ARGB32, (int)(c->width * scale), (int)(c->height * scale));
    cairo_t *k = cairo_create(surface);
    cairo_scale(k, scale, scale);
    cairo_select_font_face(k, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    for (size_t i = 0; i < c->item_count; i++)
        draw_item(k, c, &c->items[i]);
    bool ok = cairo_status(k) == CAIRO_STATUS_SUCCESS &&
              cairo_surface_write_to_png_stream(surface, take_bytes, f) == CAIRO_STATUS_SUCCESS;
    cairo_destroy(k);
    cairo_surface_destroy(surface);
    return ok;
}

int plot_png(const struct plot_canvas *c, double scale, char **bytes, size_t *size, struct error *e)
{
    *bytes = NULL;
    FILE *f = c->failed ? NULL : open_memstream(bytes, size);
    bool ok = f != NULL && draw_all(c, scale, f);
    if (f != NULL)
        ok = fclose(f) == 0 && ok;
    if (ok)
        return 0;
    free(*bytes);
    *bytes = NULL;
    return error_set(e, ERR_MEMORY, "cannot draw a picture: out of memory, or a text that is not UTF-8");
}
