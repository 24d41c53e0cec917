/* One table, so that no reader and no writer has its own idea of it. */
#include "proto/covariance.h"

bool covariance_is_scalar(enum covariance c)
{
    return c == COVARIANCE_SPHERICAL || c == COVARIANCE_VMF;
}

size_t covariance_width(enum covariance c, size_t D)
{
    switch (c) {
    case COVARIANCE_SPHERICAL:
    case COVARIANCE_VMF:
        return 1;
    case COVARIANCE_DIAGONAL:
        return D;
    case COVARIANCE_FULL:
        return D * D;
    case COVARIANCE_TIED:
        break;
    }
    return 0;
}

size_t covariance_shared_width(enum covariance c, size_t D)
{
    return c == COVARIANCE_TIED ? D * D : 0;
}

const char *covariance_tensor(enum covariance c)
{
    return c == COVARIANCE_FULL || c == COVARIANCE_TIED ? "whitening" : "variance";
}

size_t covariance_square_width(enum covariance c, size_t D)
{
    return c == COVARIANCE_VMF || c == COVARIANCE_TIED ? 0 : c == COVARIANCE_FULL ? D * D : D;
}

static bool is_triangle(const float *w, size_t D)
{
    for (size_t i = 0; i < D; i++) {
        if (!(w[i * D + i] > 0))
            return false;
        for (size_t j = i + 1; j < D; j++)
            if (w[i * D + j] != 0)
                return false;
    }
    return true;
}

bool covariance_possible(enum covariance c, size_t D, const float *spread, size_t n)
{
    if (c == COVARIANCE_FULL || c == COVARIANCE_TIED) {
        for (size_t k = 0; k < n; k++)
            if (!is_triangle(spread + k * D * D, D))
                return false;
        return true;
    }
    for (size_t i = 0; i < n * covariance_width(c, D); i++)
        if (!(spread[i] > 0))
            return false;
    return true;
}
