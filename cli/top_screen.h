/* The screen of `decant top`: a state in, lines of text out; no clock and no terminal. */
#ifndef DECANT_CLI_TOP_SCREEN_H
#define DECANT_CLI_TOP_SCREEN_H

#include <stdbool.h>
#include "cli/top_state.h"

enum { TOP_LINES_MAX = 300, TOP_LINE_BYTES = 512 };

struct top_screen {
    int width, height; /* 0: unlimited */
    bool colour;
    int count;
    char lines[TOP_LINES_MAX][TOP_LINE_BYTES]; /* without newline, at most `width` columns of ASCII; escape sequences
                                                  of colours take none */
};

/* width, height and colour are the caller's; the rest is filled in. Workers that do not fit are counted instead. */
void top_screen_draw(struct top_screen *s, const struct top_state *t);

#endif
