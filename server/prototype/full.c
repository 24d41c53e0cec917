/* Row-major lower triangles are LAPACK's upper ones. */
#include "server/prototype/full.h"

#include <math.h>
#include <stdbool.h>

/* LAPACK: Cholesky factor, inverse of a triangle. The header of liblapacke is not a dependency. */
void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a, const int *lda, int *info);

enum { RIDGES_MAX = 30 }; /* a floor of 1e-9 grows to 1e20, beyond what decoding lets through */

/* The lower triangle of V, which keeps its upper one, becomes W. false when V is not positive definite. */
static bool invert(double *V, size_t D)
{
    int n = (int)D, info = 0;
    dpotrf_("U", &n, V, &n, &info);
    if (info == 0)
        dtrtri_("U", "N", &n, V, &n, &info);
    return info == 0;
}

/* The lower triangle anew from the upper one, and the diagonal with a ridge. */
static void restore(double *V, size_t D, const float *diagonal, double ridge)
{
    for (size_t i = 0; i < D; i++) {
        V[i * D + i] = (double)diagonal[i] + ridge;
        for (size_t j = 0; j < i; j++)
            V[i * D + j] = V[j * D + i];
    }
}

static double take_triangle(const double *V, size_t D, float *whitening)
{
    double log_det = 0;
    for (size_t i = 0; i < D; i++) {
        for (size_t j = 0; j < D; j++)
            whitening[i * D + j] = j <= i ? (float)V[i * D + j] : 0;
        log_det += log((double)whitening[i * D + i]);
    }
    return log_det;
}

double whitening_of(double *V, size_t D, double floor_, float *whitening)
{
    double ridge = floor_;
    for (size_t i = 0; i < D; i++)
        whitening[i] = (float)V[i * D + i]; /* for restore; overwritten at the end */
    bool done = invert(V, D);
    for (int i = 0; i < RIDGES_MAX && !done; i++, ridge *= 10) {
        restore(V, D, whitening, ridge);
        done = invert(V, D);
    }
    if (!done)
        for (size_t i = 0; i < D * D; i++)
            V[i] = NAN;
    return take_triangle(V, D, whitening);
}

double full_row(const double *s1, const double *s2, double n, double floor_, size_t D, double *scratch, float *mean,
                float *whitening)
{
    for (size_t i = 0; i < D; i++) {
        mean[i] = (float)(s1[i] / n);
        for (size_t j = 0; j < D; j++)
            scratch[i * D + j] = 0.5 * (s2[i * D + j] + s2[j * D + i]) / n - s1[i] / n * (s1[j] / n);
        scratch[i * D + i] += floor_;
    }
    return whitening_of(scratch, D, floor_, whitening);
}

double shared_whitening(const double *A, double total, double floor_, size_t D, double *scratch, float *whitening)
{
    for (size_t i = 0; i < D * D; i++)
        scratch[i] = A[i] / total + (i % (D + 1) == 0 ? floor_ : 0);
    return whitening_of(scratch, D, floor_, whitening);
}
