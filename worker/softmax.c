/* All but the largest and the list works on what is listed. */
#include "worker/softmax.h"

#include <float.h>
#include <math.h>
#include "common/error.h"
#include "common/heap.h"
#include "common/kernels.h"
#include "common/vecmath.h"
#include "worker/words.h"

enum { SPAN = 32 };                       /* exponentials are computed so many at a time */
static const double EVIDENCE_MAX = 1e280; /* times 2^32 components it is still a number */

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

int softmax_new(uint32_t rows_max, uint32_t block, uint32_t K, struct softmax_options o, struct softmax **out)
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
    if (short_rows_new(block, &s->prepared) == 0 && s->near && s->found && s->near_logit && s->row && s->top &&
        s->start && s->index && s->gamma && s->assigned)
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
    short_rows_free(&(*s)->prepared);
    free(*s);
    *s = NULL;
}

void softmax_begin(struct softmax *s, double beta)
{
    s->beta = beta;
    s->evidence = 1;
    s->start[0] = 0;
}

void softmax_end(struct softmax *s, struct stats_extra *extra)
{
    extra->loglik += log(s->evidence);
    s->evidence = 1;
}

/* A row's part of the log-likelihood. Sums of exponentials are between 1 and K: logarithms are taken of the product
 * of many. */
static void add_evidence(struct softmax *s, float max, double sum, struct stats_extra *extra)
{
    extra->loglik += max;
    s->evidence *= sum;
    if (!(s->evidence < EVIDENCE_MAX))
        softmax_end(s, extra);
}

STATIC_KERNEL(void, scale_into, (const float *restrict x, float factor, size_t n, float *restrict out),
              (x, factor, n, out))
{
    for (size_t i = 0; i < n; i++)
        out[i] = x[i] * factor;
}

/* Those of the n values in s->row that are above 0 and no less than `limit`, in order; of those that are just as
 * large only components up to `last`. Writes and counts them. */
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

/* The first of n components in s->near whose logit is the largest; the last of all when there is none, should the
 * network have diverged. */
static uint32_t first_near(const struct softmax *s, uint32_t n, float max)
{
    for (uint32_t j = 0; j < n; j++)
        if (s->near_logit[j] >= max)
            return s->near[j];
    return s->K - 1;
}

void softmax_prepare(struct softmax *s, const struct sift *sift, uint32_t rows)
{
    s->next = 0;
    if (short_rows_serve(s->options.drop, s->options.top, s->beta))
        short_rows_take(s->prepared, sift, rows, s->cutoff);
    else
        s->prepared->count = 0;
}

/* Row i, which is the next of those that are prepared. */
static void finish_short(struct softmax *s, uint32_t i, struct stats_extra *extra)
{
    const struct short_row *row = s->prepared->of + s->next;
    uint32_t begin = s->start[i];
    ASSERT(begin + row->count <= s->nonzero_max);
    s->assigned[i] = row->assigned != UINT32_MAX ? row->assigned : s->K - 1;
    add_evidence(s, row->max, row->total, extra);
    s->start[i + 1] = begin + short_row_keep(s->prepared, s->next++, s->options.drop, s->index + begin,
                                             s->gamma + begin, &extra->dropped);
}

void softmax_row(struct softmax *s, const float *logits, uint32_t n, const uint32_t *component, uint32_t i,
                 struct stats_extra *extra)
{
    if (component != NULL && n <= SHORT && s->next < s->prepared->count) {
        finish_short(s, i, extra);
        return;
    }
    float max = vec_max(logits, n), beta = (float)s->beta;
    uint32_t near = vec_list(logits, n, component, beta, beta * max - s->cutoff, s->near, s->near_logit);
    s->assigned[i] = first_near(s, near, max);
    double evidence = beta == 1 ? 0 : exponentials(s, near, 1, max), total = exponentials(s, near, beta, max);
    add_evidence(s, max, beta == 1 ? total : evidence, extra);
    extra->dropped += keep_row(s, i, near, total);
}
