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

/* Makes the mean of exp(price) 1. */
static void shift(double *price, uint32_t K)
{
    double max = largest(price, K), sum = 0;
    for (uint32_t k = 0; k < K; k++)
        sum += exp(price[k] - max);
    double level = max + log(sum / K);
    for (uint32_t k = 0; k < K; k++)
        price[k] -= level;
}

void prices_move(double *price, const double *usage, uint32_t K, double a, double c)
{
    for (uint32_t k = 0; k < K; k++) {
        double wanting = -log(K * usage[k]); /* infinite when nothing came for long */
        price[k] += a * (wanting > c ? c : wanting < -c ? -c : wanting);
    }
    shift(price, K);
}

double prices_spread(const double *price, uint32_t K)
{
    return largest(price, K) - smallest(price, K);
}
