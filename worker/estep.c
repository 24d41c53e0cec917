/* Rows are taken in blocks whose logits (block,K) stay in a scratch of bounded size. The mixture is held as the
 * operand of a product (worker/operand.h). Of each row of logits those that matter are listed, and all else works on
 * the list (worker/softmax.h): a logit that is further below the row's largest than ln K + 10 (and than what `drop`
 * removes) counts as none. All of these together are less than e^-10 of the sum, which can be seen in the
 * log-likelihood and in the dropped share only, by as much: what is kept is divided by its own sum. With drop = 0 it
 * is 87, where the exponential is 0 in float.
 *
 * Where a sieve pays (worker/sieve.h) only what passes it for a row gets its logit, pair by pair (worker/sift.h), and
 * a row for which too much passes all of them, as without. What the sieve holds back is further below than that, so
 * the lists are the same as without it, and so is every bit after them.
 *
 * Novelty needs the largest cosine of those rows only that are far from every prototype. The prototype that a row was
 * assigned to is near most of them, which settles those for good; the rest, few or none after the first steps, meet
 * all prototypes (worker/novelty.h). */
#include "worker/estep.h"

#include <float.h>
#include <math.h>
#include <string.h>
#include "common/error.h"
#include "common/vecmath.h"
#include "worker/novelty.h"
#include "worker/operand.h"
#include "worker/sift.h"
#include "worker/softmax.h"
#include "worker/words.h"

enum {
    BLOCK_ROWS_MAX = 256,
    BLOCK_ROWS_MIN = 16,        /* with fewer rows a block reads the operand too often for its work */
    BLOCK_BYTES_MAX = 64 << 20, /* of logits, when K is large */
    GAP = 272, /* floats after each row of logits: K is often a power of two, and all rows would share few lines of
                         the cache */
};

struct estep {
    struct estep_options options;
    uint32_t rows_max, K, D, block_rows;
    struct operand *operand;
    struct sift *sift; /* NULL where there is no sieve */
    struct softmax *softmax;
    float *logits;                 /* (block,K and GAP) */
    uint32_t *logit_at;            /* (block) where a row of logits starts */
    uint32_t *searched;            /* (block) rows that meet all prototypes, */
    float *search_rows;            /* (block,D) together, */
    float *nearest;                /* (block) and how near they come */
    struct novelty *novelty;       /* NULL when nothing is searched for */
    struct kept *far;              /* (rows_max) row and distance of candidates */
    float *novel, *novel_distance; /* (novel_max,D), (novel_max) */
};

static uint32_t block_rows_for(uint32_t rows_max, uint32_t K)
{
    size_t rows = BLOCK_BYTES_MAX / (K * sizeof(float));
    rows = rows < BLOCK_ROWS_MIN ? BLOCK_ROWS_MIN : rows > BLOCK_ROWS_MAX ? BLOCK_ROWS_MAX : rows;
    return rows < rows_max ? (uint32_t)rows : rows_max;
}

static int open_parts(struct estep *s)
{
    struct softmax_options options = {.top = s->options.top, .drop = s->options.drop};
    int rc = operand_new(s->block_rows, s->K, s->D, s->options.covariance, &s->operand);
    if (rc == 0)
        rc = softmax_new(s->rows_max, s->block_rows, s->K, options, &s->softmax);
    if (rc == 0 && s->operand->sieve)
        rc = sift_new(s->operand, s->block_rows, s->softmax->cutoff, &s->sift);
    if (rc == 0 && s->options.novel_max > 0)
        rc = novelty_new(s->block_rows, s->K, s->D, &s->novelty);
    return rc;
}

static bool allocate(struct estep *s)
{
    size_t block = s->block_rows, D = s->D, novel = s->options.novel_max, search = novel > 0 ? block : 0;
    size_t stride = s->operand->whitened ? s->K : s->K + (size_t)GAP;
    s->logits = words(block * stride);
    s->logit_at = words_apart(block, stride);
    s->searched = words(search);
    s->search_rows = words(search * D);
    s->nearest = words(search);
    s->far = calloc(s->rows_max, sizeof *s->far);
    s->novel = words(novel * D);
    s->novel_distance = words(novel);
    return s->logits && s->logit_at && s->searched && s->search_rows && s->nearest && s->far && s->novel &&
           s->novel_distance;
}

int estep_new(uint32_t rows_max, uint32_t K, uint32_t D, struct estep_options o, struct estep **out)
{
    ASSERT(rows_max > 0 && K > 0 && D > 0 && o.drop >= 0 && o.drop <= 0.5f);
    struct estep *s = *out = calloc(1, sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    *s = (struct estep){.options = o, .rows_max = rows_max, .K = K, .D = D, .block_rows = block_rows_for(rows_max, K)};
    s->options.novel_max = o.novel_max < rows_max ? o.novel_max : rows_max;
    if (open_parts(s) == 0 && allocate(s))
        return 0;
    estep_free(out);
    return ERR_MEMORY;
}

void estep_free(struct estep **s)
{
    if (*s == NULL)
        return;
    void *const owned[] = {(*s)->logits,  (*s)->logit_at, (*s)->searched, (*s)->search_rows,
                           (*s)->nearest, (*s)->far,      (*s)->novel,    (*s)->novel_distance};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    novelty_free(&(*s)->novelty);
    sift_free(&(*s)->sift);
    softmax_free(&(*s)->softmax);
    operand_free(&(*s)->operand);
    free(*s);
    *s = NULL;
}

void estep_use(struct estep *s, const struct mixture_view *v)
{
    operand_use(s->operand, v);
}

const float *estep_prototypes(const struct estep *s)
{
    ASSERT(s->operand->loaded);
    return s->operand->prototypes;
}

/* Which of the block's rows may be as far as novel_distance from every prototype: the one that a row is assigned to
 * is not clearly nearer. "Clearly" is beyond what rounding can do to two sums of D products of unit rows. */
static uint32_t choose_searched(struct estep *s, const float *h, const uint32_t *assigned, uint32_t rows)
{
    size_t D = s->D;
    float near = 1 - s->options.novel_distance + (float)(D + 8) * FLT_EPSILON;
    uint32_t count = 0;
    for (uint32_t i = 0; i < rows; i++)
        if (!(vec_dot(h + i * D, s->operand->prototypes + assigned[i] * D, D) > near)) {
            memcpy(s->search_rows + count * D, h + i * D, D * sizeof *h);
            s->searched[count++] = i;
        }
    return count;
}

/* Adds the block's rows that are far from every prototype to s->far. */
static uint32_t block_candidates(struct estep *s, const float *h, uint32_t first, uint32_t rows, uint32_t found)
{
    uint32_t searched = choose_searched(s, h, s->softmax->assigned + first, rows);
    if (searched > 0)
        novelty_search(s->novelty, s->search_rows, searched, s->operand->prototypes, 1 - s->options.novel_distance,
                       s->nearest);
    for (uint32_t i = 0; i < searched; i++) {
        float distance = 1 - s->nearest[i];
        if (distance >= s->options.novel_distance)
            s->far[found++] = (struct kept){first + s->searched[i], distance};
    }
    return found;
}

static int farthest_first(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return x->value < y->value || (x->value == y->value && x->index > y->index) ? 1 : -1;
}

static void pick_candidates(struct estep *s, const float *h, uint32_t found, struct stats_extra *extra)
{
    if (s->options.choice == RESEED_FARTHEST)
        qsort(s->far, found, sizeof *s->far, farthest_first);
    extra->V = found < s->options.novel_max ? found : s->options.novel_max;
    extra->novel = s->novel;
    extra->novel_distance = s->novel_distance;
    for (uint32_t i = 0; i < extra->V; i++) {
        memcpy(s->novel + (size_t)i * s->D, h + (size_t)s->far[i].index * s->D, s->D * sizeof *s->novel);
        s->novel_distance[i] = s->far[i].value;
    }
}

/* Asks for an embedding before it is wanted: what comes from memory comes while others are worked on. */
static void fetch_ahead(const float *h, size_t D)
{
    for (size_t d = 0; d < D; d += 16)
        __builtin_prefetch(h + d, 0, 2);
}

/* The responsibilities of the block's rows, which are `first` and on, of N. */
static void finish_block(struct estep *s, const float *h, uint32_t first, uint32_t rows, uint32_t N,
                         struct stats_extra *extra)
{
    uint32_t *at;
    const float *input = operand_input(s->operand, h, rows, &at);
    bool sifts = s->sift && !sift_rests(s->sift);
    if (s->operand->whitened)
        whitened_logits(s->operand->whitened, h, rows, s->logits);
    else if (sifts)
        sift_rows(s->sift, input, at, rows, s->logits, s->logit_at);
    else
        operand_logits(s->operand, input, at, rows, s->logits, s->logit_at);
    if (sifts)
        softmax_prepare(s->softmax, s->sift, rows);
    for (uint32_t i = 0; i < rows; i++) {
        struct sifted p = sifts ? s->sift->of[i] : (struct sifted){0};
        if (first + rows + i < N)
            fetch_ahead(h + ((size_t)rows + i) * s->D, s->D);
        if (p.count > 0)
            softmax_row(s->softmax, s->sift->logits + p.first, p.count, s->sift->component + p.first, first + i, extra);
        else
            softmax_row(s->softmax, s->logits + s->logit_at[i], s->K, NULL, first + i, extra);
    }
}

void estep_run(struct estep *s, const float *h, uint32_t N, struct estep_result *out)
{
    ASSERT(s->operand->loaded && N <= s->rows_max);
    uint32_t found = 0;
    memset(out, 0, sizeof *out);
    softmax_begin(s->softmax, s->operand->beta);
    for (uint32_t first = 0; first < N; first += s->block_rows) {
        uint32_t rows = N - first < s->block_rows ? N - first : s->block_rows;
        finish_block(s, h + (size_t)first * s->D, first, rows, N, &out->extra);
        out->extra.loglik += operand_shift(s->operand, rows);
        if (s->options.novel_max > 0)
            found = block_candidates(s, h + (size_t)first * s->D, first, rows, found);
    }
    softmax_end(s->softmax, &out->extra);
    pick_candidates(s, h, found, &out->extra);
    if (s->options.covariance != COVARIANCE_VMF) /* whose log_const has all of it */
        out->extra.loglik -= N * (s->D / 2.0) * log(2 * M_PI);
    out->extra.assigned = s->softmax->assigned;
    out->gamma = (struct responsibilities){N, s->softmax->start, s->softmax->index, s->softmax->gamma};
}
