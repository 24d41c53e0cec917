/* The picture that papers print: the images nearest to each prototype. */
#ifndef DECANT_CLI_PROTOTYPE_SHEET_H
#define DECANT_CLI_PROTOTYPE_SHEET_H

#include <stdio.h>
#include "cli/checkpoint.h"
#include "cli/prototype_table.h"

enum { PROTOTYPE_SHEET_IMAGES = 9 };

struct prototype_sheet_options {
    const char *data; /* images to look in; NULL: data.path of the run */
    long long images; /* at most so many of them, a fixed choice; 0: eval.bank of the run */
    const char *out;  /* PNG */
    FILE *progress;   /* what it is doing, with the time left; NULL: silent */
};

/* One row of the sheet for each of rows[0..count), count at most SHEET_ROWS_MAX, which are of c: the nine nearest
 * images by cosine of their projection, and how many of the images are nearest to that prototype. ERR_* with a text. */
int prototype_sheet_write(const struct checkpoint *c, const struct prototype_row *rows, uint32_t count,
                          const struct prototype_sheet_options *o, struct error *e);

#endif
