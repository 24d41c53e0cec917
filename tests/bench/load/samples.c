#include "tests/bench/load/samples.h"

#include <stdlib.h>
#include "common/error.h"

void samples_add(struct samples *s, double value)
{
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->values = realloc(s->values, s->room * sizeof *s->values);
        ASSERT(s->values != NULL);
    }
    s->values[s->count++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double samples_quantile(struct samples *s, double q)
{
    if (s->count == 0)
        return 0;
    qsort(s->values, s->count, sizeof *s->values, compare);
    return s->values[(size_t)(q * (double)(s->count - 1) + 0.5)];
}

void samples_fini(struct samples *s)
{
    free(s->values);
    *s = (struct samples){0};
}
