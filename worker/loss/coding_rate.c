/* The coding rate of the student's embeddings (SimDINO: Wu et al., "Simplifying DINO via Coding Rate Regularization",
 * 2025): how many bits, up to units, the m = 2b rows Z of a slot take at precision epsilon in p = D dimensions.
 *
 *   R = (p + m) / (p m) log det M,   M = I + a Z^T Z,   a = p / (m epsilon);   loss - lambda R
 *   dR / dZ = (p + m) / (p m) 2 a Z M^-1
 *
 * M is symmetric and at least I, so one Cholesky factor gives both. It fails only when Z is not finite; then so is
 * the result, and the parameter server skips the step. Matrices are handed to BLAS by columns: Z, whose rows are
 * contiguous, is Z^T (p,m) there, and M its lower triangle. */
#include "worker/loss/objective.h"

#include <math.h>
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

/* M's factor into the lower triangle of f; log det M, or NAN. */
static double factorise(const real *z, int m, int p, real a, real *f)
{
    int info;
    double log_det = 0;
    memset(f, 0, (size_t)p * p * sizeof *f);
    for (int i = 0; i < p; i++)
        f[(size_t)i * p + i] = 1;
    SYRK(CblasColMajor, CblasLower, CblasNoTrans, p, m, a, z, p, 1, f, p);
    POTRF("L", &p, f, &p, &info);
    if (info != 0)
        return NAN;
    for (int i = 0; i < p; i++)
        log_det += 2 * log((double)f[(size_t)i * p + i]);
    return log_det;
}

double coding_rate_add(const struct loss_call *call)
{
    struct loss_workspace *w = call->w;
    int p = (int)w->D, m = 2 * (int)w->b;
    size_t n = (size_t)m * p;
    double scale = (double)(p + m) / ((double)p * m), a = p / (m * (double)call->o->coding_rate_epsilon);
    double log_det = factorise(w->student, m, p, (real)a, w->factor);
    real *x = w->partial, share = (real)(call->o->coding_rate * scale * 2 * a);
    memcpy(x, w->student, n * sizeof *x);
    TRSM(CblasColMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, p, m, 1, w->factor, p, x, p);
    TRSM(CblasColMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, p, m, 1, w->factor, p, x, p);
    for (size_t i = 0; i < n; i++)
        call->dz[i] -= share * x[i];
    return scale * log_det;
}
