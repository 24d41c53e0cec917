/* The scalar type of the network: float in the product; the gradient tests compile the same sources with double, so
 * that finite differences are exact to seven digits instead of two. */
#ifndef DECANT_WORKER_NN_REAL_H
#define DECANT_WORKER_NN_REAL_H

#include <stddef.h>
#include <stdint.h>

#ifdef NN_DOUBLE
typedef double real;
#define REAL(x) x
#else
typedef float real;
#define REAL(x) x##f
#endif

#endif
