/* The coding rate of the student's embeddings or features (SimDINO: Wu et al., "Simplifying DINO via Coding Rate
 * Regularization", 2025): how many bits, up to units, the m = 2b rows Z of a slot take at precision epsilon in
 * p = D or F dimensions.
 *
 *   R = (p + m) / (p m) log det M,   M = I + a Z^T Z,   a = p / (m epsilon);   loss - lambda R
 *   dR / dZ = (p + m) / (p m) 2 a Z M^-1
 *
 * With fewer rows than dimensions the same comes cheaper from the rows' products: log det M = log det N, Z M^-1 =
 * N^-1 Z with N = I + a Z Z^T.
 *
 * M and N are symmetric and at least I, so one Cholesky factor gives both. It fails only when Z is not finite; then so
 * is the result, which the parameter server refuses. Matrices are handed to BLAS by columns: Z, whose rows are
 * contiguous, is Z^T (p,m) there, and M or N its lower triangle. */
#include "worker/loss/coding_rate.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <cblas.h>

/* LAPACK: Cholesky factor. The header of liblapacke is not a dependency. */
#ifdef NN_DOUBLE
#define SYRK cblas_dsyrk
#define TRSM cblas_dtrsm
#define POTRF dpotrf_
#else
#define SYRK cblas_ssyrk
#define TRSM cblas_strsm
#define POTRF spotrf_
#endif
void POTRF(const char *uplo, const int *n, real *a, const int *lda, int *info);

/* The factor of M, or with `by_rows` of N, into the lower triangle of f; the logarithm of the determinant, or NAN. */
static double factorise(const struct coding_rate *c, const real *z, bool by_rows, real a)
{
    int info, p = (int)c->p, n = (int)(by_rows ? c->m : c->p), k = (int)(by_rows ? c->p : c->m);
    real *f = c->factor;
    double log_det = 0;
    memset(f, 0, (size_t)n * n * sizeof *f);
    for (int i = 0; i < n; i++)
        f[(size_t)i * n + i] = 1;
    SYRK(CblasColMajor, CblasLower, by_rows ? CblasTrans : CblasNoTrans, n, k, a, z, p, 1, f, n);
    POTRF("L", &n, f, &n, &info);
    if (info != 0)
        return NAN;
    for (int i = 0; i < n; i++)
        log_det += 2 * log((double)f[(size_t)i * n + i]);
    return log_det;
}

/* x (m,p), Z on entry, becomes Z M^-1 = N^-1 Z. By columns it is x^T: M stands on its left, N on its right. */
static void solve(const struct coding_rate *c, bool by_rows, real *x)
{
    int p = (int)c->p, m = (int)c->m, n = by_rows ? m : p;
    enum CBLAS_SIDE side = by_rows ? CblasRight : CblasLeft;
    TRSM(CblasColMajor, side, CblasLower, by_rows ? CblasTrans : CblasNoTrans, CblasNonUnit, p, m, 1, c->factor, n, x,
         p);
    TRSM(CblasColMajor, side, CblasLower, by_rows ? CblasNoTrans : CblasTrans, CblasNonUnit, p, m, 1, c->factor, n, x,
         p);
}

double coding_rate_add(const struct coding_rate *c, const real *z, real *d)
{
    double p = (double)c->p, m = (double)c->m, scale = (p + m) / (p * m), a = p / (m * (double)c->epsilon);
    size_t n = c->m * c->p;
    bool by_rows = c->m < c->p;
    double log_det = factorise(c, z, by_rows, (real)a);
    real *x = c->partial, share = (real)(c->weight * scale * 2 * a);
    memcpy(x, z, n * sizeof *x);
    solve(c, by_rows, x);
    for (size_t i = 0; i < n; i++)
        d[i] -= share * x[i];
    return scale * log_det;
}

size_t coding_rate_factor(size_t m, size_t p)
{
    size_t n = m < p ? m : p;
    return n * n;
}
