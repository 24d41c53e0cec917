/* One pass over the rows for each seed: distances in float, their sum in double and in the order of rows. */
#include "server/prototype/seeding.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "common/kernels.h"
#include "common/rng.h"

enum { LANES = 32 };

/* ---- memory ---- */

int seeding_new(const struct seeding_options *o, uint32_t K, uint32_t D, struct seeding **out)
{
    ASSERT(o->N >= 1 && o->rounds >= 1 && K >= 1 && D >= 1);
    struct seeding *s = calloc(1, sizeof *s);
    *out = NULL;
    if (s == NULL)
        return ERR_MEMORY;
    s->options = *o;
    s->K = K;
    s->D = D;
    s->rows = calloc((size_t)o->N * D, sizeof *s->rows);
    s->distance = calloc(o->N, sizeof *s->distance);
    s->seeds = calloc(K, sizeof *s->seeds);
    if (s->rows == NULL || s->distance == NULL || s->seeds == NULL) {
        seeding_free(&s);
        return ERR_MEMORY;
    }
    for (uint32_t i = 0; i < o->N; i++)
        s->distance[i] = FLT_MAX;
    *out = s;
    return 0;
}

void seeding_free(struct seeding **s)
{
    if (*s == NULL)
        return;
    free((*s)->rows);
    free((*s)->distance);
    free((*s)->seeds);
    free(*s);
    *s = NULL;
}

void seeding_copy(struct seeding *to, const struct seeding *from)
{
    ASSERT(to->options.N == from->options.N && to->K == from->K && to->D == from->D);
    to->gathered = from->gathered;
    to->chosen = from->chosen;
    memcpy(to->rows, from->rows, (size_t)from->gathered * from->D * sizeof *to->rows);
    memcpy(to->distance, from->distance, from->options.N * sizeof *to->distance);
    memcpy(to->seeds, from->seeds, from->chosen * sizeof *to->seeds);
}

/* ---- rows ---- */

void seeding_gather(struct seeding *s, const float *rows, uint32_t n)
{
    ASSERT(n <= s->options.N - s->gathered);
    if (n > 0)
        memcpy(s->rows + (size_t)s->gathered * s->D, rows, (size_t)n * s->D * sizeof *rows);
    s->gathered += n;
}

/* ---- seeds ---- */

/* |a - b|^2 of the differences themselves: 0 for equal rows, which 2 - 2 a.b is not. */
static inline __attribute__((always_inline)) float squared_distance(const float *restrict a, const float *restrict b,
                                                                    size_t D)
{
    float sums[LANES] = {0};
    size_t d = 0;
    for (; d + LANES <= D; d += LANES)
        for (size_t lane = 0; lane < LANES; lane++) {
            float x = a[d + lane] - b[d + lane];
            sums[lane] += x * x;
        }
    for (size_t lane = 0; d + lane < D; lane++) {
        float x = a[d + lane] - b[d + lane];
        sums[lane] += x * x;
    }
    for (size_t half = LANES / 2; half > 0; half /= 2)
        for (size_t lane = 0; lane < half; lane++)
            sums[lane] += sums[half + lane];
    return sums[0];
}

/* distance_i = min(distance_i, |row_i - row_seed|^2); rows (N,D). */
STATIC_KERNEL(void, cover, (const float *rows, size_t seed, size_t N, size_t D, float *restrict distance),
              (rows, seed, N, D, distance))
{
    for (size_t i = 0; i < N; i++) {
        float x = squared_distance(rows + i * D, rows + seed * D, D);
        distance[i] = x < distance[i] ? x : distance[i];
    }
}

/* [0, 1) in steps of 2^-53: rows may be many. */
static double uniform(struct rng *r)
{
    uint64_t high = rng_u32(r), low = rng_u32(r);
    return (double)((high << 32 | low) >> 11) * 0x1p-53;
}

/* A row drawn in proportion to its distance; N when every row is a seed's equal. */
static uint32_t draw(const struct seeding *s, struct rng *r)
{
    double total = 0, before = 0;
    for (uint32_t i = 0; i < s->options.N; i++)
        total += (double)s->distance[i];
    double u = uniform(r) * total;
    uint32_t last = s->options.N;
    for (uint32_t i = 0; i < s->options.N; i++) {
        if (!(s->distance[i] > 0))
            continue;
        last = i;
        before += (double)s->distance[i];
        if (before > u)
            break;
    }
    return last;
}

static bool choose_one(struct seeding *s)
{
    struct rng r;
    rng_open(&r, s->options.seed, RNG_SEEDING, s->chosen, 0, 0);
    uint32_t i = s->chosen == 0 ? rng_below(&r, s->options.N) : draw(s, &r);
    if (i == s->options.N)
        return false;
    s->seeds[s->chosen++] = i;
    cover(s->rows, i, s->options.N, s->D, s->distance);
    return true;
}

bool seeding_choose(struct seeding *s)
{
    if (s->gathered < s->options.N)
        return false;
    for (uint32_t round = 0; round < s->options.rounds && s->chosen < s->K; round++)
        if (!choose_one(s))
            return true;
    return s->chosen == s->K;
}
