/* Pairs of row and component are listed row by row, in whole duos, and then multiplied PAIRS at a time. */
#include "worker/sift.h"

#include <math.h>
#include <string.h>
#include "common/error.h"
#include "common/vecmath.h"
#include "worker/refine.h"
#include "worker/words.h"

enum {
    PASSING_SHARE = 8, /* when more than one component in so many passes, a row is computed as a whole, */
    PAIRS_SHARE = 16,  /* and when those that pass would be more than that of a block's */
    RESTED = 7,        /* blocks after one whose rows were mostly computed as a whole */
};

int sift_new(struct operand *o, uint32_t rows, float cutoff, struct sift **out)
{
    struct sift *s = *out = calloc(1, sizeof *s);
    if (s == NULL)
        return ERR_MEMORY;
    *s =
        (struct sift){.operand = o, .cutoff = cutoff, .max = (rows * (o->K / PAIRS_SHARE) + PAIRS - 1) / PAIRS * PAIRS};
    s->component = words(s->max + SIEVE_ROOM);
    s->logits = words(s->max);
    s->duo_row = words(s->max / DUO);
    s->of = calloc(rows, sizeof *s->of);
    s->whole_at = words(rows);
    s->whole_logit_at = words(rows);
    s->rows = words((size_t)PAIRS * o->width);
    if (s->component && s->logits && s->duo_row && s->of && s->whole_at && s->whole_logit_at && s->rows)
        return 0;
    sift_free(out);
    return ERR_MEMORY;
}

void sift_free(struct sift **s)
{
    if (*s == NULL)
        return;
    void *const owned[] = {(*s)->component, (*s)->logits,         (*s)->duo_row, (*s)->of,
                           (*s)->whole_at,  (*s)->whole_logit_at, (*s)->rows};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++)
        free(owned[i]);
    free(*s);
    *s = NULL;
}

bool sift_rests(struct sift *s)
{
    if (s->rest == 0)
        return false;
    s->rest--;
    return true;
}

/* A lower limit of row i's largest logit: by how much the largest bound may be too large; or the logit of its
 * component, where the product costs little beside the other ones of the row. */
static float largest_logit(struct sift *s, uint32_t i, const float *x)
{
    uint32_t k = sieve_best(s->operand->sieve, i);
    if (s->operand->component_rows)
        return sieve_largest(s->operand->sieve, i) - 2 * sieve_error(s->operand->sieve, k);
    float largest = operand_bias(s->operand, k) + vec_dot(x, operand_row(s->operand, k, s->rows), s->operand->width);
    return largest - 0.25f * sieve_error(s->operand->sieve, k) - 1e-5f * fabsf(largest);
}

/* Below which bound a component is further from row i's largest logit than s->cutoff; NaN when the row is no number. */
static float sieve_threshold(struct sift *s, uint32_t i, const float *x)
{
    return largest_logit(s, i, x) - (1.001f * s->cutoff + 0.01f) / (float)s->operand->beta;
}

/* Logits of the pairs that pass, PAIRS at a time; `pairs` of them, whole duos. */
static void refine_passing(struct sift *s, const float *input, const uint32_t *at, uint32_t pairs)
{
    struct duos q;
    for (uint32_t first = 0; first < pairs; first += PAIRS) {
        for (uint32_t j = 0; j < PAIRS; j++) {
            uint32_t pair = first + j < pairs ? first + j : pairs - 1, k = s->component[pair];
            q.x[j / DUO] = input + at[s->duo_row[pair / DUO]];
            q.r[j] = operand_row(s->operand, k, s->rows + (size_t)j * s->operand->width);
            q.logit[j] = operand_bias(s->operand, k);
        }
        refine_duos(&q, s->operand->width);
        memcpy(s->logits + first, q.logit, (pairs - first < PAIRS ? pairs - first : PAIRS) * sizeof *q.logit);
    }
}

/* Lists what may matter to row i from pair `first` on, whole duos; returns how many pairs, 0 when there are too
 * many. */
static uint32_t list_passing(struct sift *s, uint32_t i, const float *x, uint32_t first)
{
    float threshold = sieve_threshold(s, i, x);
    uint32_t most = s->max - first, limit = s->operand->K / PASSING_SHARE < most ? s->operand->K / PASSING_SHARE : most;
    uint32_t n = isfinite(threshold) ? sieve_list(s->operand->sieve, i, threshold, limit, s->component + first) : 0;
    if (n == 0 || n > limit)
        return 0;
    s->of[i] = (struct sifted){first, n};
    for (uint32_t j = 0; j < DUO - 1; j++) /* up to a whole duo; there is room for all */
        s->component[first + n + j] = s->component[first + n - 1];
    n = (n + DUO - 1) / DUO * DUO;
    for (uint32_t j = 0; j < n; j += DUO)
        s->duo_row[(first + j) / DUO] = i;
    return n;
}

void sift_rows(struct sift *s, const float *input, uint32_t *at, uint32_t rows, float *logits, uint32_t *logit_at)
{
    uint32_t pairs = 0, whole = 0;
    sieve_bound(s->operand->sieve, input, at, rows, logits, logit_at);
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t listed = list_passing(s, i, input + at[i], pairs);
        pairs += listed;
        if (listed > 0)
            continue;
        s->of[i] = (struct sifted){0};
        s->whole_at[whole] = at[i];
        s->whole_logit_at[whole++] = logit_at[i];
    }
    refine_passing(s, input, at, pairs);
    operand_logits(s->operand, input, s->whole_at, whole, logits, s->whole_logit_at);
    s->rest = 2 * whole > rows ? RESTED : 0;
}
