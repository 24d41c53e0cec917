/* Lane 4 q + c of a vector belongs to component c of quad q. Four elements at a time of 16 components are turned within
 * quarters of a vector, and those of the four rows are spread over theirs. */
#include "worker/refine.h"

#include "common/kernels.h"

#if KERNELS_X86

#include <immintrin.h>

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

/* r[c]: elements d to d + 3 of each quad's component c; then element d + c of all components. */
INLINE_TARGET void turn(__m512 r[QUAD])
{
    __m512 a = _mm512_unpacklo_ps(r[0], r[1]), b = _mm512_unpackhi_ps(r[0], r[1]);
    __m512 c = _mm512_unpacklo_ps(r[2], r[3]), d = _mm512_unpackhi_ps(r[2], r[3]);
    r[0] = _mm512_shuffle_ps(a, c, 0x44);
    r[1] = _mm512_shuffle_ps(a, c, 0xee);
    r[2] = _mm512_shuffle_ps(b, d, 0x44);
    r[3] = _mm512_shuffle_ps(b, d, 0xee);
}

INLINE_TARGET __m512 add_four(__m512 sum, __m512 x, const __m512 r[QUAD])
{
    sum = _mm512_fmadd_ps(_mm512_permute_ps(x, 0x00), r[0], sum);
    sum = _mm512_fmadd_ps(_mm512_permute_ps(x, 0x55), r[1], sum);
    sum = _mm512_fmadd_ps(_mm512_permute_ps(x, 0xaa), r[2], sum);
    return _mm512_fmadd_ps(_mm512_permute_ps(x, 0xff), r[3], sum);
}

TARGET void refine_quads(struct quads *q, size_t width)
{
    __m512 sum = _mm512_loadu_ps(q->logit), r[QUAD];
    size_t d = 0;
    for (; d + QUAD <= width; d += QUAD) {
        /* There are more addresses than registers: they are to be read again, not carried in vector registers. */
        __asm__ volatile("" : "+m"(*q));
#pragma GCC unroll 4
        for (size_t c = 0; c < QUAD; c++)
            r[c] = four_whole(q->r + c, QUAD, d);
        turn(r);
        sum = add_four(sum, four_whole(q->x, 1, d), r);
    }
    if (d < width) { /* the rest: zeros add nothing */
        __mmask8 mask = (__mmask8)((1u << (width - d)) - 1);
        for (size_t c = 0; c < QUAD; c++)
            r[c] = four(q->r + c, QUAD, d, mask);
        turn(r);
        sum = add_four(sum, four(q->x, 1, d, mask), r);
    }
    _mm512_storeu_ps(q->logit, sum);
}

#else

#include <math.h>

void refine_quads(struct quads *q, size_t width)
{
    for (size_t pair = 0; pair < PAIRS; pair++)
        for (size_t d = 0; d < width; d++)
            q->logit[pair] = fmaf(q->x[pair / QUAD][d], q->r[pair][d], q->logit[pair]);
}

#endif
