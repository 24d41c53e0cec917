/* Small vector kernels. They are pure (pointers and dims); common/kernels.h says which of their
 * three compilations runs. */
#ifndef DECANT_COMMON_VECMATH_H
#define DECANT_COMMON_VECMATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Call first in every thread that computes: flush denormals (FTZ, DAZ). */
void compute_thread_init(void);

void vec_add(float *restrict y, const float *restrict x, size_t n);           /* y += x */
void vec_axpy(float *restrict y, float a, const float *restrict x, size_t n); /* y += a x */
void vec_scale(float *x, float a, size_t n);
double vec_sum_squares(const float *x, size_t n); /* accumulated in double, fixed order */
float vec_dot(const float *restrict x, const float *restrict y, size_t n);
bool vec_all_finite(const float *x, size_t n);
bool vec_all_finite_f64(const double *x, size_t n);
/* Rows of x (R,D) divided by max(|row|, 1e-12); norms (R), when not NULL, receives |row|. */
void vec_normalise_rows(float *x, size_t R, size_t D, float *norms);
/* x_i = exp(x_i - shift) for i < n; returns the sum. Differences under -87 give 0, NaN stays NaN, from 88.38 on
 * infinity. Relative error <= 2e-7 of the exponential of the rounded difference. */
float vec_exp_shifted(float *x, float shift, size_t n);
/* Those of x (n) for which scale x is not below `limit`, in order; NaN is not. Writes their values, and name[i], or i
 * where names are NULL, and returns how many they are. Both have room for VEC_LIST_SLACK more. */
enum { VEC_LIST_SLACK = 16 };
uint32_t vec_list(const float *restrict x, uint32_t n, const uint32_t *restrict names, float scale, float limit,
                  uint32_t *restrict name, float *restrict value);
float vec_max(const float *x, size_t n); /* n > 0; a NaN beyond x[0] is passed over */

#endif
