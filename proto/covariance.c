/* One table, so that no reader and no writer has its own idea of it. */
#include "proto/covariance.h"

bool covariance_is_scalar(enum covariance c)
{
    return c == COVARIANCE_SPHERICAL || c == COVARIANCE_VMF;
}

size_t covariance_width(enum covariance c, size_t D)
{
    return covariance_is_scalar(c) ? 1 : D;
}

size_t covariance_square_width(enum covariance c, size_t D)
{
    return c == COVARIANCE_VMF ? 0 : D;
}
