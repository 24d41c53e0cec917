/* In double and in index order, like the rest of the mixture's state. */
#include "server/prototype/prices.h"

#include <math.h>

static double largest(const double *x, uint32_t n)
{
    double max = x[0];
    for (uint32_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

static double smallest(const double *x, uint32_t n)
{
    double min = x[0];
    for (uint32_t i = 1; i < n; i++)
        min = x[i] < min ? x[i] : min;
    return min;
}

/* Makes the mean of exp(price) 1. Components that nothing came to since the start have one price: what exp made of it
 * is used again. */
static void shift(double *price, uint32_t K)
{
    double max = largest(price, K), sum = 0, of = price[0], made = exp(price[0] - max);
    for (uint32_t k = 0; k < K; k++) {
        made = price[k] == of ? made : exp(price[k] - max);
        of = price[k];
        sum += made;
    }
    double level = max + log(sum / K);
    for (uint32_t k = 0; k < K; k++)
        price[k] -= level;
}

/* -log(x) cut to -c..c; x may be 0. least is a little below exp(-c): under it no rounding can bring the logarithm back
 * to c, and need not be known. */
static double cut_wanting(double x, double c, double least)
{
    if (x < least)
        return c;
    double wanting = -log(x);
    return wanting > c ? c : wanting < -c ? -c : wanting;
}

void prices_move(double *price, const double *usage, const double *wanted, uint32_t K, double a, double c)
{
    double least = exp(-c) * (1 - 1e-9);
    for (uint32_t k = 0; k < K; k++)
        price[k] += a * cut_wanting(wanted ? usage[k] / wanted[k] : K * usage[k], c, least);
    shift(price, K);
}

double prices_spread(const double *price, uint32_t K)
{
    return largest(price, K) - smallest(price, K);
}
