/* GCC's vectors at AVX2 width, and reductions of a row with them. Inline, so that each clone of a KERNEL compiles them
 * for its own target; for narrower targets the compiler splits the vectors. Sums have a fixed shape: four vectors of
 * partial sums, then lanes pairwise, then the tail in order. */
#ifndef DECANT_WORKER_NN_VECTOR_H
#define DECANT_WORKER_NN_VECTOR_H

#include "worker/nn/real.h"

#define INLINE static inline __attribute__((always_inline))

enum { VECTOR_BYTES = 32, VECTOR = VECTOR_BYTES / sizeof(real) };
typedef real vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
typedef real half __attribute__((vector_size(VECTOR_BYTES / 2), aligned(sizeof(real)), may_alias));

/* A comparison's: all ones in a lane where it holds. */
#ifdef NN_DOUBLE
typedef int64_t lane_bits;
#define VECTOR_LANES ((vector_bits){0, 1, 2, 3})
#else
typedef int32_t lane_bits;
#define VECTOR_LANES ((vector_bits){0, 1, 2, 3, 4, 5, 6, 7})
#endif
typedef lane_bits vector_bits __attribute__((vector_size(VECTOR_BYTES)));

/* Macros and pointers, because a vector passed by value has no settled calling convention on narrower targets. */
#define VECTOR_AT(x) (*(const vector *)(x))

/* The sum of all lanes: halves upon halves. */
INLINE real vector_lanes(const vector *sum)
{
    half low = *(const half *)sum, high = *(const half *)((const real *)sum + VECTOR / 2);
    low += high;
#ifdef NN_DOUBLE
    return low[0] + low[1];
#else
    return (low[0] + low[2]) + (low[1] + low[3]);
#endif
}

INLINE real vector_dot(const real *x, const real *y, size_t n)
{
    vector a = {0}, b = {0}, c = {0}, d = {0};
    size_t i = 0;
    for (; i + 4 * VECTOR <= n; i += 4 * VECTOR) {
        a += VECTOR_AT(x + i) * VECTOR_AT(y + i);
        b += VECTOR_AT(x + i + VECTOR) * VECTOR_AT(y + i + VECTOR);
        c += VECTOR_AT(x + i + 2 * VECTOR) * VECTOR_AT(y + i + 2 * VECTOR);
        d += VECTOR_AT(x + i + 3 * VECTOR) * VECTOR_AT(y + i + 3 * VECTOR);
    }
    for (; i + VECTOR <= n; i += VECTOR)
        a += VECTOR_AT(x + i) * VECTOR_AT(y + i);
    a = (a + b) + (c + d);
    real sum = vector_lanes(&a);
    for (; i < n; i++) {
        sum += x[i] * y[i];
        __asm__ volatile(
            ""); /* a vectorised tail would be rounded apart from one that is fused, by the target's width */
    }
    return sum;
}

INLINE real vector_sum(const real *x, size_t n)
{
    vector a = {0}, b = {0}, c = {0}, d = {0};
    size_t i = 0;
    for (; i + 4 * VECTOR <= n; i += 4 * VECTOR) {
        a += VECTOR_AT(x + i);
        b += VECTOR_AT(x + i + VECTOR);
        c += VECTOR_AT(x + i + 2 * VECTOR);
        d += VECTOR_AT(x + i + 3 * VECTOR);
    }
    for (; i + VECTOR <= n; i += VECTOR)
        a += VECTOR_AT(x + i);
    a = (a + b) + (c + d);
    real sum = vector_lanes(&a);
    for (; i < n; i++)
        sum += x[i];
    return sum;
}

/* a = the larger of both, lane by lane; a's where they cannot be compared. */
INLINE void vector_larger(vector *a, const vector *b)
{
    vector_bits take = *b > *a;
    *a = (vector)((take & (vector_bits)*b) | (~take & (vector_bits)*a));
}

/* The largest lane. */
INLINE real vector_largest(const vector *v)
{
    vector a = *v;
#ifndef NN_DOUBLE
    vector b = __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3);
    vector_larger(&a, &b);
#endif
    real even = a[0] > a[2] ? a[0] : a[2], odd = a[1] > a[3] ? a[1] : a[3];
    return even > odd ? even : odd;
}

/* n > 0 */
INLINE real vector_max(const real *x, size_t n)
{
    enum { LANES = 4 * VECTOR }; /* more than the compiler unrolls, which would keep it from vectorising */
    real lane[LANES], most = x[0];
    size_t i = 0;
    for (int k = 0; k < LANES; k++)
        lane[k] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    vector a = VECTOR_AT(lane), b = VECTOR_AT(lane + VECTOR), c = VECTOR_AT(lane + 2 * VECTOR);
    vector_larger(&b, &VECTOR_AT(lane + 3 * VECTOR));
    vector_larger(&a, &c);
    vector_larger(&a, &b);
    real among = vector_largest(&a);
    return among > most ? among : most;
}

#endif
