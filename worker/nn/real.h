/* The scalar type of the network: float in the product; the gradient tests compile the same sources with double, so that
 * finite differences are exact to seven digits instead of two. */
#ifndef DECANT_WORKER_NN_REAL_H
#define DECANT_WORKER_NN_REAL_H

#include <cblas.h>
#include <math.h>

#ifdef NN_DOUBLE
typedef double real;
#define real_gemm cblas_dgemm
#define REAL(x) x
#else
typedef float real;
#define real_gemm cblas_sgemm
#define REAL(x) x##f
#endif

#endif
