/* Two arrays that double. */
#include "cli/plot_canvas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "common/error.h"

void plot_canvas_init(struct plot_canvas *c, double width, double height)
{
    *c = (struct plot_canvas){.width = width, .height = height};
}

void plot_canvas_fini(struct plot_canvas *c)
{
    free(c->items);
    free(c->points);
    *c = (struct plot_canvas){0};
}

/* Room for one more element of that size; false when there is none. */
static bool make_room(struct plot_canvas *c, void **array, size_t *room, size_t count, size_t size)
{
    if (count < *room)
        return true;
    size_t wanted = *room ? 2 * *room : 64;
    void *grown = realloc(*array, wanted * size);
    c->failed |= grown == NULL;
    if (!grown)
        return false;
    *array = grown;
    *room = wanted;
    return true;
}

static void add_item(struct plot_canvas *c, const struct plot_item *item)
{
    if (make_room(c, (void **)&c->items, &c->item_room, c->item_count, sizeof *item))
        c->items[c->item_count++] = *item;
}

static void add_point(struct plot_canvas *c, double x, double y)
{
    if (make_room(c, (void **)&c->points, &c->point_room, c->point_count, sizeof *c->points))
        c->points[c->point_count++] = (struct plot_point){x, y};
}

void plot_path(struct plot_canvas *c, const struct plot_style *style, bool closed)
{
    add_item(c, &(struct plot_item){.kind = PLOT_PATH, .style = *style, .first = c->point_count, .closed = closed});
}

void plot_to(struct plot_canvas *c, double x, double y)
{
    if (c->failed)
        return;
    ASSERT(c->item_count > 0 && c->items[c->item_count - 1].kind == PLOT_PATH);
    add_point(c, x, y);
    c->items[c->item_count - 1].count += !c->failed;
}

void plot_line(struct plot_canvas *c, const struct plot_style *style, double x1, double y1, double x2, double y2)
{
    plot_path(c, style, false);
    plot_to(c, x1, y1);
    plot_to(c, x2, y2);
}

void plot_box(struct plot_canvas *c, const struct plot_style *style, double x, double y, double width, double height)
{
    plot_path(c, style, true);
    plot_to(c, x, y);
    plot_to(c, x + width, y);
    plot_to(c, x + width, y + height);
    plot_to(c, x, y + height);
}

void plot_circle(struct plot_canvas *c, const struct plot_style *style, double x, double y, double radius)
{
    add_item(c, &(struct plot_item){
                    .kind = PLOT_CIRCLE, .style = *style, .first = c->point_count, .count = 1, .size = radius});
    add_point(c, x, y);
}

void plot_text(struct plot_canvas *c, uint32_t colour, double x, double y, double size, enum plot_anchor anchor,
               const char *format, ...)
{
    struct plot_item item = {.kind = PLOT_TEXT,
                             .style = {.fill = colour, .fill_opacity = 1},
                             .first = c->point_count,
                             .count = 1,
                             .size = size,
                             .anchor = anchor};
    va_list args;
    va_start(args, format);
    vsnprintf(item.text, sizeof item.text, format, args);
    va_end(args);
    add_item(c, &item);
    add_point(c, x, y);
}
