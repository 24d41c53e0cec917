#include "worker/short_rows.h"

#include <float.h>
#include <math.h>
#include "common/error.h"
#include "common/exp.h"
#include "common/kernels.h"
#include "worker/words.h"
#if KERNELS_X86
#include <immintrin.h>
#endif

static const float DROP_MIN = 1e-7f;

bool short_rows_serve(float drop, uint32_t top, double beta)
{
    return KERNELS_X86 && beta == 1 && top == 0 && drop >= DROP_MIN && kernels_chosen() >= KERNELS_AVX512;
}

int short_rows_new(uint32_t rows, struct short_rows **out)
{
    struct short_rows *s = *out = calloc(1, sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    s->rows = rows;
    s->of = calloc(rows, sizeof *s->of);
    s->value = words((size_t)rows * SHORT);
    s->component = words((size_t)rows * SHORT);
    if (s->of && s->value && s->component)
        return 0;
    short_rows_free(out);
    return ERR_MEMORY;
}

void short_rows_free(struct short_rows **s)
{
    if (*s == NULL)
        return;
    free((*s)->of);
    free((*s)->value);
    free((*s)->component);
    free(*s);
    *s = NULL;
}

#if KERNELS_X86

/* What counts of n <= SHORT logits, moved together. */
KERNELS_TARGET_AVX512 static inline struct short_row
list_row(const float *logits, uint32_t n, const uint32_t *component, float cutoff, float *near, uint32_t *name)
{
    const __mmask16 there = (__mmask16)((1u << n) - 1);
    const __m512 none = _mm512_set1_ps(-INFINITY), l = _mm512_mask_loadu_ps(none, there, logits);
    const float max = _mm512_reduce_max_ps(l);
    __mmask16 counts = _mm512_mask_cmp_ps_mask(there, l, _mm512_set1_ps(max - cutoff), _CMP_NLT_UQ);
    __mmask16 largest = _mm512_mask_cmp_ps_mask(counts, l, _mm512_set1_ps(max), _CMP_GE_OQ);
    _mm512_storeu_si512(name, _mm512_maskz_compress_epi32(counts, _mm512_maskz_loadu_epi32(there, component)));
    _mm512_storeu_ps(near, _mm512_sub_ps(_mm512_mask_compress_ps(none, counts, l), _mm512_set1_ps(max)));
    return (struct short_row){.count = (uint32_t)__builtin_popcount(counts),
                              .assigned = largest != 0 ? component[__builtin_ctz(largest)] : UINT32_MAX,
                              .max = max};
}

KERNELS_TARGET_AVX512 static void exponentials(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = exp_or_zero(x[i]);
}

/* In halves, as vec_exp_shifted adds up. */
KERNELS_TARGET_AVX512 static void add_up(struct short_rows *s)
{
    for (uint32_t j = 0; j < s->count; j++)
        s->of[j].total = (double)_mm512_reduce_add_ps(_mm512_loadu_ps(s->value + (size_t)j * SHORT));
}

void short_rows_take(struct short_rows *s, const struct sift *sift, uint32_t rows, float cutoff)
{
    s->count = 0;
    for (uint32_t i = 0; i < rows; i++) {
        struct sifted p = sift->of[i];
        if (p.count == 0 || p.count > SHORT)
            continue;
        size_t at = (size_t)s->count * SHORT;
        s->of[s->count++] = list_row(sift->logits + p.first, p.count, sift->component + p.first, cutoff, s->value + at,
                                     s->component + at);
    }
    exponentials(s->value, (size_t)s->count * SHORT);
    add_up(s);
}

/* The sum is exact in double, and so in any order: of 16 floats none of which is smaller than DROP_MIN of their sum. */
KERNELS_TARGET_AVX512 uint32_t short_row_keep(const struct short_rows *s, uint32_t j, double drop, uint32_t *index,
                                              float *gamma, double *dropped)
{
    const double total = s->of[j].total;
    const float limit = (float)(drop * total), least = limit > FLT_MIN ? limit : FLT_MIN;
    const __m512 e = _mm512_loadu_ps(s->value + (size_t)j * SHORT);
    const __mmask16 first = (__mmask16)((1u << s->of[j].count) - 1);
    const __mmask16 kept = _mm512_mask_cmp_ps_mask(first, e, _mm512_set1_ps(least), _CMP_GE_OQ);
    const __m512 g = _mm512_maskz_compress_ps(kept, e);
    const double sum = _mm512_reduce_add_pd(
        _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(g)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(g, 1))));
    _mm512_storeu_ps(gamma, _mm512_mul_ps(g, _mm512_set1_ps((float)(1 / sum))));
    _mm512_storeu_si512(index, _mm512_maskz_compress_epi32(kept, _mm512_loadu_si512(s->component + (size_t)j * SHORT)));
    const double rest = 1 - sum / total; /* a total that was rounded down is less than its parts */
    *dropped += rest > 0 ? rest : 0;
    return (uint32_t)__builtin_popcount(kept);
}

#else

void short_rows_take(struct short_rows *s, const struct sift *sift, uint32_t rows, float cutoff)
{
    (void)sift, (void)rows, (void)cutoff;
    s->count = 0;
}

uint32_t short_row_keep(const struct short_rows *s, uint32_t j, double drop, uint32_t *index, float *gamma,
                        double *dropped)
{
    (void)s, (void)j, (void)drop, (void)index, (void)gamma, (void)dropped;
    return 0;
}

#endif
