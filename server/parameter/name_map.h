/* What tensors are called in another program's file. A text of lines, '#' beginning a comment:
 *
 *   conv1.weight = stem.weight       ours = theirs
 *   block* = encoder.block*          what follows the star's place is the same in both
 *   head* = -                        not taken, whatever the file has
 *
 * The first line that fits a name decides; a name that none fits is its own. */
#ifndef DECANT_SERVER_PARAMETER_NAME_MAP_H
#define DECANT_SERVER_PARAMETER_NAME_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include "common/error.h"
#include "common/safetensors.h"

enum { NAME_MAP_LINES_MAX = 4096 };

struct name_map_line {
    char ours[TENSOR_NAME_MAX], theirs[TENSOR_NAME_MAX]; /* without their stars */
    bool prefix;                                         /* both had one at their end */
    bool skip;                                           /* theirs is "-" */
};

struct name_map {
    struct name_map_line *lines;
    size_t count;
};

/* An empty text is a map of nothing. ERR_CONFIG names the line; ERR_RANGE beyond the limits above, ERR_MEMORY. */
int name_map_parse(const char *text, size_t size, struct name_map *out, struct error *e);
void name_map_fini(struct name_map *m);
/* out: what `ours` is called there. False: it is not to be taken. *mapped: a line says so. */
bool name_map_find(const struct name_map *m, const char *ours, char out[TENSOR_NAME_MAX], bool *mapped);

#endif
