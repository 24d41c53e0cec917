/* Lane i of a vector belongs to pair i, so that a quarter has two duos. Four elements at a time of 16 components are
 * turned within quarters, and those of a quarter's two rows are spread over it. */
#include "worker/refine.h"

#include "common/kernels.h"

#if KERNELS_X86

#include <immintrin.h>

enum {
    LANES = 16, /* pairs in a vector, two of which take turns: an addition waits for the one before it */
    FOUR = 4,   /* elements at a time */
};

#define TARGET KERNELS_TARGET_AVX512
#define INLINE_TARGET static inline __attribute__((always_inline)) TARGET

/* n <= 4 floats at `at` on of each of four arrays, `apart` pointers from each other, in a quarter each. */
INLINE_TARGET __m512 four(const float *const *from, size_t apart, size_t at, __mmask8 mask)
{
    __m512 v = _mm512_castps128_ps512(_mm_maskz_loadu_ps(mask, from[0] + at));
    v = _mm512_insertf32x4(v, _mm_maskz_loadu_ps(mask, from[apart] + at), 1);
    v = _mm512_insertf32x4(v, _mm_maskz_loadu_ps(mask, from[2 * apart] + at), 2);
    return _mm512_insertf32x4(v, _mm_maskz_loadu_ps(mask, from[3 * apart] + at), 3);
}

/* The same of whole quarters. */
INLINE_TARGET __m512 four_whole(const float *const *from, size_t apart, size_t at)
{
    __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(from[0] + at));
    v = _mm512_insertf32x4(v, _mm_loadu_ps(from[apart] + at), 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps(from[2 * apart] + at), 2);
    return _mm512_insertf32x4(v, _mm_loadu_ps(from[3 * apart] + at), 3);
}

/* r[c]: elements d to d + 3 of each quarter's component c; then element d + c of all components. */
INLINE_TARGET void turn(__m512 r[FOUR])
{
    __m512 a = _mm512_unpacklo_ps(r[0], r[1]), b = _mm512_unpackhi_ps(r[0], r[1]);
    __m512 c = _mm512_unpacklo_ps(r[2], r[3]), d = _mm512_unpackhi_ps(r[2], r[3]);
    r[0] = _mm512_shuffle_ps(a, c, 0x44);
    r[1] = _mm512_shuffle_ps(a, c, 0xee);
    r[2] = _mm512_shuffle_ps(b, d, 0x44);
    r[3] = _mm512_shuffle_ps(b, d, 0xee);
}

/* x, y: elements d to d + 3 of the first and of the second row of each quarter. */
INLINE_TARGET __m512 add_four(__m512 sum, __m512 x, __m512 y, const __m512 r[FOUR])
{
    sum = _mm512_fmadd_ps(_mm512_shuffle_ps(x, y, 0x00), r[0], sum);
    sum = _mm512_fmadd_ps(_mm512_shuffle_ps(x, y, 0x55), r[1], sum);
    sum = _mm512_fmadd_ps(_mm512_shuffle_ps(x, y, 0xaa), r[2], sum);
    return _mm512_fmadd_ps(_mm512_shuffle_ps(x, y, 0xff), r[3], sum);
}

/* Elements d to d + 3 of 16 pairs, of which q->r[first] is the first. */
INLINE_TARGET __m512 step(const struct duos *q, size_t first, size_t d, __m512 sum)
{
    __m512 r[FOUR];
#pragma GCC unroll 4
    for (size_t c = 0; c < FOUR; c++)
        r[c] = four_whole(q->r + first + c, FOUR, d);
    turn(r);
    const float *const *x = q->x + first / DUO;
    return add_four(sum, four_whole(x, 2, d), four_whole(x + 1, 2, d), r);
}

/* The same of the last elements, fewer than four: zeros add nothing. */
INLINE_TARGET __m512 rest(const struct duos *q, size_t first, size_t d, __mmask8 mask, __m512 sum)
{
    __m512 r[FOUR];
#pragma GCC unroll 4
    for (size_t c = 0; c < FOUR; c++)
        r[c] = four(q->r + first + c, FOUR, d, mask);
    turn(r);
    const float *const *x = q->x + first / DUO;
    return add_four(sum, four(x, 2, d, mask), four(x + 1, 2, d, mask), r);
}

TARGET void refine_duos(struct duos *q, size_t width)
{
    __m512 one = _mm512_loadu_ps(q->logit), other = _mm512_loadu_ps(q->logit + LANES);
    size_t d = 0;
    for (; d + FOUR <= width; d += FOUR) {
        /* There are more addresses than registers: they are to be read again, not carried in vector registers. */
        __asm__ volatile("" : "+m"(*q));
        one = step(q, 0, d, one);
        other = step(q, LANES, d, other);
    }
    if (d < width) {
        __mmask8 mask = (__mmask8)((1u << (width - d)) - 1);
        one = rest(q, 0, d, mask, one);
        other = rest(q, LANES, d, mask, other);
    }
    _mm512_storeu_ps(q->logit, one);
    _mm512_storeu_ps(q->logit + LANES, other);
}

#else

#include <math.h>

void refine_duos(struct duos *q, size_t width)
{
    for (size_t pair = 0; pair < PAIRS; pair++)
        for (size_t d = 0; d < width; d++)
            q->logit[pair] = fmaf(q->x[pair / DUO][d], q->r[pair][d], q->logit[pair]);
}

#endif
