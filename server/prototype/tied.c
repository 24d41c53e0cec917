/* Lower triangles are summed and mirrored at the end. */
#include "server/prototype/tied.h"

#include <math.h>
#include "common/kernels.h"

/* A += scale x x^T, lower triangle. */
STATIC_KERNEL(void, add_outer, (double *restrict A, const double *restrict x, double scale, size_t D), (A, x, scale, D))
{
    for (size_t i = 0; i < D; i++) {
        double weighted = scale * x[i];
        for (size_t j = 0; j <= i; j++)
            A[i * D + j] += weighted * x[j];
    }
}

/* A = Lambda A + T, lower triangle. */
STATIC_KERNEL(void, decay_and_add, (double *restrict A, double Lambda, const float *restrict T, size_t D),
              (A, Lambda, T, D))
{
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j <= i; j++)
            A[i * D + j] = Lambda * A[i * D + j] + (double)T[i * D + j];
}

static double total_mass(const double *mass, uint32_t K)
{
    double total = 0;
    for (uint32_t k = 0; k < K; k++)
        total += mass[k];
    return total;
}

void tied_fold(double *A, const double *mass, const double *s1, double eta, const struct stats_rows *s, double *scratch)
{
    size_t D = s->D;
    double total = total_mass(mass, s->K), left = total;
    if (s->R == 0)
        return;
    for (uint32_t r = 0; r < s->R; r++)
        left -= (1 - pow(eta, (double)s->n[r])) * mass[s->index[r]];
    decay_and_add(A, left / total, s->moment, D);
    for (uint32_t r = 0; r < s->R; r++) {
        size_t k = s->index[r];
        double n = (double)s->n[r], kept = pow(eta, n) * mass[k];
        const float *x = s->s1 + r * D;
        for (size_t d = 0; d < D; d++)
            scratch[d] = (double)x[d];
        add_outer(A, scratch, -1 / n, D);
        for (size_t d = 0; d < D; d++)
            scratch[d] = s1[k * D + d] / mass[k] - scratch[d] / n;
        add_outer(A, scratch, kept * n / (kept + n), D);
    }
    for (size_t i = 0; i < D; i++)
        for (size_t j = 0; j < i; j++)
            A[j * D + i] = A[i * D + j];
}

void tied_replace(double *A, size_t D, double n, double total, double n0, double s0)
{
    for (size_t i = 0; i < D * D; i++)
        A[i] *= 1 - n / total;
    for (size_t d = 0; d < D; d++)
        A[d * (D + 1)] += n0 * s0;
}
