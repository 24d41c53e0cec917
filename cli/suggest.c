/* Optimal string alignment distance by the usual table of three rows. */
#include "cli/suggest.h"

#include <string.h>

enum { WORD_MAX = 32 }; /* longer words have no suggestion */

static size_t least(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b), rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = rows[i % 3], *before = rows[(i + 2) % 3], *earlier = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            now[j] = least(before[j] + 1, now[j - 1] + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < now[j])
                now[j] = earlier[j - 2] + 1;
        }
    }
    return rows[n % 3][m];
}

const char *suggest(const char *text, const char *const *words, size_t n)
{
    size_t length = strlen(text), limit = length <= 3 ? 1 : length / 3 > 2 ? length / 3 : 2;
    const char *best = NULL;
    if (length == 0 || length > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t d = strlen(words[i]) <= WORD_MAX ? distance(text, words[i]) : limit + 1;
        if (d <= limit) {
            best = words[i];
            limit = d - (d > 0);
            if (d == 0)
                break;
        }
    }
    return best;
}
