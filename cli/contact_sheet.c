/* Pixels are put into cairo's surface directly, text is drawn by cairo. */
#include "cli/contact_sheet.h"

#include <cairo/cairo.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/json_print.h"
#include "cli/output_file.h"
#include "cli/printable.h"

enum {
    MARGIN = 12,
    GAP = 6,
    TITLE = 20, /* pixels of the line over a row, and of a caption under an image */
    CAPTION = 16,
    FONT = 11,
    SHOWN_MIN = 64, /* an image has at least that many pixels on the sheet: captions have to fit */
};

/* Sheet pixels to one of an image. */
static uint32_t scale_of(const struct contact_sheet *s)
{
    uint32_t side = s->height < s->width ? s->height : s->width;
    return side >= SHOWN_MIN ? 1 : (SHOWN_MIN + side - 1) / side;
}

int contact_sheet_init(const struct dataset *d, uint32_t rows, uint32_t columns, struct contact_sheet *out,
                       struct error *e)
{
    *out = (struct contact_sheet){
        .rows = rows, .columns = columns, .height = d->height, .width = d->width, .channels = d->channels};
    if (rows == 0 || rows > SHEET_ROWS_MAX || columns == 0 || columns > SHEET_COLUMNS_MAX)
        return error_set(e, ERR_RANGE, "a sheet of %u rows of %u images: it may have 1 to %d of 1 to %d", rows, columns,
                         SHEET_ROWS_MAX, SHEET_COLUMNS_MAX);
    out->titles = calloc(rows, sizeof *out->titles);
    out->cells = calloc((size_t)rows * columns, sizeof *out->cells);
    if (out->titles && out->cells)
        return 0;
    contact_sheet_fini(out);
    return error_set(e, ERR_MEMORY, "out of memory for a sheet");
}

void contact_sheet_fini(struct contact_sheet *s)
{
    free(s->titles);
    free(s->cells);
    *s = (struct contact_sheet){0};
}

void contact_sheet_text(const char *text, char out[SHEET_TEXT_MAX])
{
    json_t *whole = json_print_text(text);
    const char *shown = whole ? json_string_value(whole) : "";
    size_t length = strlen(shown);
    bool cut = length >= SHEET_TEXT_MAX;
    if (cut) {
        shown += length - (SHEET_TEXT_MAX - 4);
        while ((*shown & 0xc0) == 0x80) /* not in the middle of a character */
            shown++;
    }
    snprintf(out, SHEET_TEXT_MAX, "%s%s", cut ? "..." : "", shown);
    printable(out);
    json_decref(whole);
}

/* ---- pixels ---- */

/* 0xRRGGBB of a pixel of 1 grey, 2 grey with alpha, 3 or more colour channels. */
static uint32_t colour_of(const uint8_t *pixel, uint32_t channels)
{
    return channels < 3 ? pixel[0] * 0x010101u : (uint32_t)(pixel[0] << 16 | pixel[1] << 8 | pixel[2]);
}

static void put_image(const struct contact_sheet *s, const uint8_t *pixels, uint32_t left, uint32_t top,
                      cairo_surface_t *surface)
{
    uint32_t scale = scale_of(s);
    size_t stride = (size_t)cairo_image_surface_get_stride(surface);
    unsigned char *data = cairo_image_surface_get_data(surface);
    for (uint32_t y = 0; y < s->height * scale; y++) {
        uint32_t *line = (uint32_t *)(data + (top + y) * stride) + left;
        const uint8_t *row = pixels + (size_t)(y / scale) * s->width * s->channels;
        for (uint32_t x = 0; x < s->width * scale; x++)
            line[x] = 0xff000000u | colour_of(row + (size_t)(x / scale) * s->channels, s->channels);
    }
}

/* ---- layout ---- */

struct layout {
    uint32_t cell_width, row_height, width, height;
};

static struct layout layout_of(const struct contact_sheet *s)
{
    uint32_t scale = scale_of(s);
    struct layout l = {.cell_width = s->width * scale + GAP, .row_height = TITLE + s->height * scale + CAPTION};
    l.width = 2 * MARGIN + s->columns * l.cell_width - GAP;
    l.height = 2 * MARGIN + s->rows * l.row_height;
    return l;
}

static void cell_place(const struct layout *l, uint32_t row, uint32_t column, uint32_t *left, uint32_t *top)
{
    *left = MARGIN + column * l->cell_width;
    *top = MARGIN + row * l->row_height + TITLE;
}

static void draw_images(const struct contact_sheet *s, const struct layout *l, cairo_surface_t *surface)
{
    uint32_t left, top;
    cairo_surface_flush(surface);
    for (uint32_t row = 0; row < s->rows; row++)
        for (uint32_t column = 0; column < s->columns; column++) {
            const struct sheet_cell *cell = &s->cells[(size_t)row * s->columns + column];
            cell_place(l, row, column, &left, &top);
            if (cell->pixels)
                put_image(s, cell->pixels, left, top, surface);
        }
    cairo_surface_mark_dirty(surface);
}

/* No wider than its place. */
static void draw_text(cairo_t *k, const char *text, double x, double y, double width)
{
    cairo_save(k);
    cairo_rectangle(k, x, y - FONT - 2, width, FONT + 6);
    cairo_clip(k);
    cairo_move_to(k, x, y);
    cairo_show_text(k, text);
    cairo_new_path(k);
    cairo_restore(k);
}

static void draw_texts(const struct contact_sheet *s, const struct layout *l, cairo_t *k)
{
    uint32_t left, top, shown = s->height * scale_of(s);
    cairo_select_font_face(k, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(k, FONT);
    cairo_set_source_rgb(k, 0.13, 0.13, 0.13);
    for (uint32_t row = 0; row < s->rows; row++) {
        cell_place(l, row, 0, &left, &top);
        draw_text(k, s->titles[row], left, top - 5, l->width - 2 * MARGIN);
        for (uint32_t column = 0; column < s->columns; column++) {
            cell_place(l, row, column, &left, &top);
            draw_text(k, s->cells[(size_t)row * s->columns + column].caption, left, top + shown + FONT + 1,
                      l->cell_width - GAP);
        }
    }
}

static cairo_status_t take_bytes(void *file, const unsigned char *data, unsigned length)
{
    return fwrite(data, 1, length, file) == length ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

static int draw(const struct contact_sheet *s, FILE *f, const char *path, struct error *e)
{
    struct layout l = layout_of(s);
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)l.width, (int)l.height);
    cairo_t *k = cairo_create(surface);
    cairo_status_t status = cairo_status(k);
    if (status == CAIRO_STATUS_SUCCESS) {
        cairo_set_source_rgb(k, 1, 1, 1);
        cairo_paint(k);
        draw_images(s, &l, surface);
        draw_texts(s, &l, k);
        status = cairo_status(k);
    }
    if (status == CAIRO_STATUS_SUCCESS)
        status = cairo_surface_write_to_png_stream(surface, take_bytes, f);
    cairo_destroy(k);
    cairo_surface_destroy(surface);
    return status == CAIRO_STATUS_SUCCESS ? 0
                                          : error_set(e, ERR_IO,
                                                      "%s: a sheet of %ux%u pixels: %s; fewer rows or images "
                                                      "make it smaller",
                                                      path, l.width, l.height, cairo_status_to_string(status));
}

int contact_sheet_png(const struct contact_sheet *s, char **bytes, size_t *size, struct error *e)
{
    FILE *f = open_memstream(bytes, size);
    if (f == NULL)
        return error_set(e, ERR_MEMORY, "out of memory for a sheet");
    int rc = draw(s, f, "PNG", e);
    if (fclose(f) != 0 && rc == 0)
        rc = error_set(e, ERR_MEMORY, "out of memory for a sheet");
    if (rc != 0) {
        free(*bytes);
        *bytes = NULL;
    }
    return rc;
}

int contact_sheet_write(const struct contact_sheet *s, const char *path, struct error *e)
{
    struct output_file out;
    int rc = output_file_open(path, &out, e);
    return rc == 0 ? output_file_close(&out, draw(s, out.f, path, e), e) : rc;
}
