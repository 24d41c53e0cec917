/* "Did you mean": the nearest of a list of words. */
#ifndef DECANT_CLI_SUGGEST_H
#define DECANT_CLI_SUGGEST_H

#include <stddef.h>

/* The word with the fewest edits (insert, delete, replace, swap of neighbours) from text, or NULL when all are further
 * than a third of its length (at least 2, of three letters 1). */
const char *suggest(const char *text, const char *const *words, size_t n);

#endif
