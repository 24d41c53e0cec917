/* Rows of small images with a line of text over each row and one under each image, as a PNG: nearest images of a
 * query or of a prototype. */
#ifndef DECANT_CLI_CONTACT_SHEET_H
#define DECANT_CLI_CONTACT_SHEET_H

#include "common/error.h"
#include "worker/data/dataset.h"

enum { SHEET_TEXT_MAX = 96, SHEET_ROWS_MAX = 256, SHEET_COLUMNS_MAX = 32 };

struct sheet_cell {
    const uint8_t *pixels;        /* one image of the sheet's size; NULL: an empty place */
    char caption[SHEET_TEXT_MAX]; /* cut to what fits by whoever draws */
};

struct contact_sheet {
    uint32_t rows, columns;           /* 1..SHEET_ROWS_MAX, 1..SHEET_COLUMNS_MAX */
    uint32_t height, width, channels; /* of all images */
    char (*titles)[SHEET_TEXT_MAX];   /* (rows) */
    struct sheet_cell *cells;         /* (rows, columns) */
};

/* Empty, for images like those of d. ERR_RANGE beyond the limits above, ERR_MEMORY. */
int contact_sheet_init(const struct dataset *d, uint32_t rows, uint32_t columns, struct contact_sheet *out,
                       struct error *e);
void contact_sheet_fini(struct contact_sheet *s);

/* text in a place of SHEET_TEXT_MAX bytes: what is not UTF-8 or steers a terminal becomes '?'; of what is too long, the
 * end is kept, for it tells files apart. */
void contact_sheet_text(const char *text, char out[SHEET_TEXT_MAX]);

/* Small images are shown several pixels large. The same sheet gives the same bytes on one machine; fonts may differ
 * between machines. Atomic. ERR_IO, ERR_MEMORY. */
int contact_sheet_write(const struct contact_sheet *s, const char *path, struct error *e);
/* The same in memory, malloc'd. */
int contact_sheet_png(const struct contact_sheet *s, char **bytes, size_t *size, struct error *e);

#endif
