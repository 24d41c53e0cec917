/* One element a shape. */
#include "cli/svg_write.h"

#include <stdio.h>
#include <stdlib.h>

static void write_text(FILE *f, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        if (*p == '&')
            fputs("&amp;", f);
        else if (*p == '<')
            fputs("&lt;", f);
        else if (*p == '>')
            fputs("&gt;", f);
        else if (*p == '"')
            fputs("&quot;", f);
        else
            fputc(*p < 0x20 || *p >= 0x7f ? '?' : *p, f);
}

static void write_style(FILE *f, const struct plot_style *s)
{
    if (s->fill_opacity > 0)
        fprintf(f, " fill=\"#%06x\" fill-opacity=\"%.3g\"", s->fill, s->fill_opacity);
    else
        fputs(" fill=\"none\"", f);
    if (s->stroke_opacity > 0)
        fprintf(f, " stroke=\"#%06x\" stroke-opacity=\"%.3g\" stroke-width=\"%.3g\" stroke-linejoin=\"round\"",
                s->stroke, s->stroke_opacity, s->width);
    if (s->stroke_opacity > 0 && s->dash > 0)
        fprintf(f, " stroke-dasharray=\"%.3g\"", s->dash);
    fputs("/>\n", f);
}

static void write_path(FILE *f, const struct plot_canvas *c, const struct plot_item *item)
{
    fputs("<path d=\"", f);
    for (size_t i = 0; i < item->count; i++)
        fprintf(f, "%c%.2f %.2f", i ? 'L' : 'M', c->points[item->first + i].x, c->points[item->first + i].y);
    fputs(item->closed ? "Z\"" : "\"", f);
    write_style(f, &item->style);
}

static void write_item(FILE *f, const struct plot_canvas *c, const struct plot_item *item)
{
    static const char *const anchors[] = {[PLOT_START] = "start", [PLOT_MIDDLE] = "middle", [PLOT_END] = "end"};
    const struct plot_point *at = &c->points[item->first];
    if (item->kind == PLOT_PATH && item->count > 0) {
        write_path(f, c, item);
    } else if (item->kind == PLOT_CIRCLE) {
        fprintf(f, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"%.3g\"", at->x, at->y, item->size);
        write_style(f, &item->style);
    } else if (item->kind == PLOT_TEXT) {
        fprintf(f, "<text x=\"%.2f\" y=\"%.2f\" font-size=\"%.3g\" text-anchor=\"%s\" fill=\"#%06x\">", at->x, at->y,
                item->size, anchors[item->anchor], item->style.fill);
        write_text(f, item->text);
        fputs("</text>\n", f);
    }
}

int svg_write(const struct plot_canvas *c, const char *title, char **text, size_t *size, struct error *e)
{
    *text = NULL;
    FILE *f = c->failed ? NULL : open_memstream(text, size);
    if (f == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for a picture");
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"%.0f\" height=\"%.0f\" "
            "viewBox=\"0 0 %.0f %.0f\" font-family=\"DejaVu Sans, Verdana, sans-serif\">\n<title>",
            c->width, c->height, c->width, c->height);
    write_text(f, title);
    fputs("</title>\n", f);
    for (size_t i = 0; i < c->item_count; i++)
        write_item(f, c, &c->items[i]);
    fputs("</svg>\n", f);
    if (fclose(f) == 0)
        return 0;
    free(*text);
    *text = NULL;
    return error_set(e, ERR_MEMORY, "out of memory for a picture");
}
