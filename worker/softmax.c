/* All but the largest and the list works on what is listed. Rows of few logits, as a sieve leaves most, have a way of their
 * own on AVX-512, with the same bits. */
#include "worker/softmax.h"

#include <float.h>
#include <math.h>
#include "common/error.h"
#include "common/heap.h"
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/words.h"
#if KERNELS_X86
#include <immintrin.h>
#endif

enum { SPAN = 32 }; /* exponentials are computed so many at a time */

/* Responsibilities sum to 1, so that at most 1/drop of them are as large as drop; a little more for rounding. */
static size_t kept_per_row(uint32_t K, const struct softmax_options *o)
{
    size_t kept = K;
    if (o->drop > 0 && ceil(1.001 / o->drop) + 1 < kept)
        kept = (size_t)ceil(1.001 / o->drop) + 1;
    return o->top > 0 && o->top < kept ? o->top : kept;
}

static float cutoff_of(uint32_t K, float drop)
{
    float all = 87, sum = logf((float)K) + 10;
    if (!(drop > 0))
        return all;
    float cutoff = fmaxf(sum, 1 - logf(drop));
    return cutoff < all ? cutoff : all;
}

int softmax_new(uint32_t rows_max, uint32_t K, struct softmax_options o, struct softmax **out)
{
    struct softmax *s = *out = calloc(1, sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    o.top = o.top < K ? o.top : 0;
    *s = (struct softmax){.options = o, .K = K, .cutoff = cutoff_of(K, o.drop)};
    s->nonzero_max = rows_max * kept_per_row(K, &o);
    s->near = words(K + SPAN);
    s->found = words(K + SPAN);
    s->near_logit = words(K + SPAN);
    s->row = words(K + SPAN);
    s->top = calloc(o.top + 1u, sizeof *s->top);
    s->start = calloc(rows_max + 1u, sizeof *s->start);
    s->index = words(s->nonzero_max + VEC_LIST_SLACK);
    s->gamma = words(s->nonzero_max + VEC_LIST_SLACK);
    s->assigned = calloc(rows_max, sizeof *s->assigned);
    if (s->near && s->found && s->near_logit && s->row && s->top && s->start && s->index && s->gamma && s->assigned)
        return 0;
    softmax_free(out);
    return ERR_MEMORY;
}

void softmax_free(struct softmax **s)
{
    if (*s == NULL)
        return;
    void *const owned[] = {(*s)->near,  (*s)->found, (*s)->near_logit, (*s)->row,     (*s)->top,
                           (*s)->start, (*s)->index, (*s)->gamma,      (*s)->assigned};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    free(*s);
    *s = NULL;
}

void softmax_begin(struct softmax *s, double beta)
{
    s->beta = beta;
    s->start[0] = 0;
}

STATIC_KERNEL(void, scale_into, (const float *restrict x, float factor, size_t n, float *restrict out),
              (x, factor, n, out))
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * factor;
}

/* Those of the n values in s->row that are above 0 and no less than `limit`, in order; of those that are just as large only components up
 * to `last`. Writes and counts them. */
static uint32_t collect(struct softmax *s, uint32_t n, struct kept limit, uint32_t *index, float *value)
{
    float least = limit.value > FLT_MIN ? limit.value : FLT_MIN; /* denormals are flushed */
    float *found = s->near_logit;                                /* the logits have done their part */
    uint32_t listed = vec_list(s->row, n, s->near, 1, least, s->found, found), kept = 0;
    for (uint32_t j = 0; j < listed; j++) {
        if (!(found[j] > 0) || (found[j] == limit.value && s->found[j] > limit.index))
            continue;
        index[kept] = s->found[j];
        value[kept++] = found[j];
    }
    return kept;
}

/* Whether a is given up before b: it is smaller, or equal and of higher index. The index makes the order total, so that
 * which responsibilities are kept does not depend on the heap's history. */
static bool weaker(struct kept a, struct kept b)
{
    return a.value < b.value || (a.value == b.value && a.index > b.index);
}

HEAP_DEFINE(kept_heap, struct kept, weaker) /* the weakest at the root */

/* The weakest of the `top` largest of the n values in s->row; the caller drops everything weaker. */
static struct kept top_threshold(struct softmax *s, uint32_t n)
{
    size_t m = s->options.top, count = 0;
    for (uint32_t j = 0; j < n; j++) {
        struct kept candidate = {s->near[j], s->row[j]};
        if (count < m) {
            s->top[count] = candidate;
            kept_heap_rise(s->top, count++);
        } else if (weaker(s->top[0], candidate)) {
            s->top[0] = candidate;
            kept_heap_sink(s->top, m, 0);
        }
    }
    return count < m ? (struct kept){s->K, 0} : s->top[0];
}

/* Appends the row's responsibilities from the n values in s->row, which sum to `total`; returns the share that was
 * dropped. */
static double keep_row(struct softmax *s, uint32_t i, uint32_t n, double total)
{
    struct kept limit = {s->K, (float)(s->options.drop * total)};
    if (s->options.top > 0) {
        struct kept top = top_threshold(s, n);
        limit = weaker(limit, top) ? top : limit;
    }
    uint32_t begin = s->start[i];
    uint32_t count = collect(s, n, limit, s->index + begin, s->gamma + begin);
    ASSERT(begin + count <= s->nonzero_max);
    double sum = 0;
    for (uint32_t z = begin; z < begin + count; z++)
        sum += s->gamma[z];
    vec_scale(s->gamma + begin, (float)(1 / sum), count);
    s->start[i + 1] = begin + count;
    return total > sum ? 1 - sum / total : 0;
}

/* s->row = exp(beta (l - max)) of the n logits in s->near_logit; returns the sum. Whole spans, so that every element is
 * computed by the same instructions wherever it stands. */
static double exponentials(struct softmax *s, uint32_t n, float beta, float max)
{
    uint32_t whole = (n + SPAN - 1) / SPAN * SPAN;
    for (uint32_t j = n; j < whole; j++)
        s->near_logit[j] = -INFINITY;
    scale_into(s->near_logit, beta, whole, s->row);
    return vec_exp_shifted(s->row, beta * max, whole);
}

/* The first of n components in s->near whose logit is the largest; the last of all when there is none, should the network
 * have diverged. */
static uint32_t first_near(const struct softmax *s, uint32_t n, float max)
{
    for (uint32_t j = 0; j < n; j++)
        if (s->near_logit[j] >= max)
            return s->near[j];
    return s->K - 1;
}

#if KERNELS_X86

enum { SHORT = 16 };
static const float SHORT_DROP_MIN = 1e-7f;

/* Lists what counts of n <= SHORT logits, as softmax_row does, and fills s->near and s->row up to a SPAN. Returns how many. */
KERNELS_TARGET_AVX512 static uint32_t list_short(struct softmax *s, const float *logits, uint32_t n,
                                                 const uint32_t *component, uint32_t i, float *max)
{
    const __mmask16 there = (__mmask16)(n < SHORT ? (1u << n) - 1 : 0xffffu);
    const __m512 none = _mm512_set1_ps(-INFINITY), l = _mm512_mask_loadu_ps(none, there, logits);
    const __m512i name = _mm512_maskz_loadu_epi32(there, component);
    *max = _mm512_reduce_max_ps(l);
    __mmask16 counts = _mm512_mask_cmp_ps_mask(there, l, _mm512_set1_ps(*max - s->cutoff), _CMP_NLT_UQ);
    __mmask16 largest = _mm512_mask_cmp_ps_mask(counts, l, _mm512_set1_ps(*max), _CMP_GE_OQ);
    s->assigned[i] = largest != 0 ? component[__builtin_ctz(largest)] : s->K - 1; /* 0: the largest is no number */
    _mm512_storeu_si512(s->near, _mm512_maskz_compress_epi32(counts, name));
    _mm512_storeu_ps(s->row, _mm512_mask_compress_ps(none, counts, l));
    _mm512_storeu_ps(s->row + SHORT, none);
    return (uint32_t)__builtin_popcount(counts);
}

/* keep_row of the n <= SHORT values in s->row. The sum is exact in double, and so in any order: of 16 floats none of which
 * is smaller than SHORT_DROP_MIN of their sum. */
KERNELS_TARGET_AVX512 static double keep_short(struct softmax *s, uint32_t i, uint32_t n, double total)
{
    const uint32_t begin = s->start[i];
    const float limit = (float)(s->options.drop * total), least = limit > FLT_MIN ? limit : FLT_MIN;
    const __m512 e = _mm512_loadu_ps(s->row);
    const __mmask16 first = (__mmask16)(n < SHORT ? (1u << n) - 1 : 0xffffu);
    const __mmask16 kept = _mm512_mask_cmp_ps_mask(first, e, _mm512_set1_ps(least), _CMP_GE_OQ);
    const __m512 g = _mm512_maskz_compress_ps(kept, e);
    const double sum = _mm512_reduce_add_pd(
        _mm512_add_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(g)), _mm512_cvtps_pd(_mm512_extractf32x8_ps(g, 1))));
    const __m512i name = _mm512_maskz_compress_epi32(kept, _mm512_loadu_si512(s->near));
    ASSERT(begin + (uint32_t)__builtin_popcount(kept) <= s->nonzero_max);
    _mm512_storeu_ps(s->gamma + begin, _mm512_mul_ps(g, _mm512_set1_ps((float)(1 / sum))));
    _mm512_storeu_si512(s->index + begin, name);
    s->start[i + 1] = begin + (uint32_t)__builtin_popcount(kept);
    return total > sum ? 1 - sum / total : 0;
}

/* Whether a row of n logits may go by the two above, which give the same bits as the general way. */
static bool is_short(const struct softmax *s, uint32_t n, const uint32_t *component)
{
    return component != NULL && n <= SHORT && s->beta == 1 && s->options.top == 0 &&
           s->options.drop >= SHORT_DROP_MIN && kernels_chosen() >= KERNELS_AVX512;
}

static void finish_short(struct softmax *s, const float *logits, uint32_t n, const uint32_t *component, uint32_t i,
                         struct stats_extra *extra)
{
    float max;
    uint32_t near = list_short(s, logits, n, component, i, &max);
    double total = vec_exp_shifted(s->row, max, SPAN);
    extra->loglik += max + log(total);
    extra->dropped += keep_short(s, i, near, total);
}

#endif

void softmax_row(struct softmax *s, const float *logits, uint32_t n, const uint32_t *component, uint32_t i,
                 struct stats_extra *extra)
{
#if KERNELS_X86
    if (is_short(s, n, component)) {
        finish_short(s, logits, n, component, i, extra);
        return;
    }
#endif
    float max = vec_max(logits, n), beta = (float)s->beta;
    uint32_t near = vec_list(logits, n, component, beta, beta * max - s->cutoff, s->near, s->near_logit);
    s->assigned[i] = first_near(s, near, max);
    double evidence = beta == 1 ? 0 : exponentials(s, near, 1, max), total = exponentials(s, near, beta, max);
    extra->loglik += max + log(beta == 1 ? total : evidence);
    extra->dropped += keep_row(s, i, near, total);
}
