/* The teacher follows the student: teacher' = m teacher + (1 - m) student' (the exponential moving average of Mean
 * Teacher, BYOL and DINO). The parameter server does it in its update and publishes the student with m; a worker that
 * holds the teacher of the version before does it once more, and gets the same bytes with any kernels: products and
 * sums are rounded apart (the Makefile compiles this file without contraction to FMA). Both call compute_thread_init
 * first, so that denormals are zero. A check travels along: another teacher would spoil a run without a word. */
#ifndef DECANT_PROTO_TEACHER_H
#define DECANT_PROTO_TEACHER_H

#include <stddef.h>
#include "proto/manifest.h"

/* to = m teacher + (1 - m) student, n floats; to may be teacher. */
void teacher_average(float m, const float *teacher, const float *student, float *to, size_t n);
/* The whole flat vector (m->parameter_floats), entry by entry: those whose weights do not change keep their teacher. */
void teacher_follow(const struct manifest *manifest, float m, const float *teacher, const float *student, float *to);
/* What two teachers are compared by: 53 bits of the XXH3 of n floats, as a whole number. */
double teacher_check(const float *teacher, size_t n);

#endif
