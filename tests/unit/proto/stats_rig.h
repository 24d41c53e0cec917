/* What the tests of EM statistics share: random responsibilities, and statistics to a message and back. */
#ifndef DECANT_TESTS_UNIT_PROTO_STATS_RIG_H
#define DECANT_TESTS_UNIT_PROTO_STATS_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/stats.h"

struct batch {
    uint32_t N, K, D;
    enum covariance covariance;
    float *h;
    uint32_t *start, *index, *assigned;
    float *gamma, *novel, *distance;
    struct responsibilities g;
    struct stats_extra extra;
};

/* Each embedding has `per_row` components out of K, evenly spread from a random one. */
static inline void add_embedding(struct batch *b, struct rng *r, uint32_t i, uint32_t per_row)
{
    float sum = 0, *gamma = b->gamma + b->start[i];
    uint32_t *index = b->index + b->start[i], stride = b->K / per_row, first = rng_below(r, stride);
    for (uint32_t j = 0; j < per_row; j++) {
        index[j] = first + j * stride;
        gamma[j] = 0.01f + rng_uniform(r);
        sum += gamma[j];
    }
    for (uint32_t j = 0; j < per_row; j++)
        gamma[j] /= sum;
    for (uint32_t d = 0; d < b->D; d++)
        b->h[i * b->D + d] = (float)rng_normal(r);
    vec_normalise_rows(b->h + i * b->D, 1, b->D, NULL);
    b->start[i + 1] = b->start[i] + per_row;
    b->assigned[i] = index[0];
}

static inline void batch_init(struct batch *b, uint64_t seed, uint32_t N, uint32_t K, uint32_t D, uint32_t per_row)
{
    struct rng r;
    rng_open(&r, seed, RNG_MIXTURE, N, K, D);
    *b = (struct batch){.N = N, .K = K, .D = D, .covariance = COVARIANCE_DIAGONAL};
    b->h = calloc((size_t)N * D, sizeof(float));
    b->start = calloc(N + 1, sizeof(uint32_t));
    b->index = calloc((size_t)N * per_row, sizeof(uint32_t));
    b->gamma = calloc((size_t)N * per_row, sizeof(float));
    b->assigned = calloc(N, sizeof(uint32_t));
    for (uint32_t i = 0; i < N; i++)
        add_embedding(b, &r, i, per_row);
    b->novel = calloc(2 * D, sizeof(float));
    b->distance = calloc(2, sizeof(float));
    for (uint32_t d = 0; d < 2 * D; d++)
        b->novel[d] = rng_uniform(&r);
    vec_normalise_rows(b->novel, 2, D, NULL);
    b->distance[0] = 1.25f;
    b->distance[1] = 0.5f;
    b->g = (struct responsibilities){N, b->start, b->index, b->gamma};
    b->extra = (struct stats_extra){N < 2 ? N : 2, b->novel, b->distance, b->assigned, -12.5 * N, 0.25, 0};
}

static inline void batch_fini(struct batch *b)
{
    free(b->h);
    free(b->start);
    free(b->index);
    free(b->gamma);
    free(b->assigned);
    free(b->novel);
    free(b->distance);
}

static inline void assert_same(const struct stats_rows *a, const struct stats_rows *b)
{
    size_t D = a->D;
    assert_int_equal(a->R, b->R);
    assert_int_equal(a->V, b->V);
    assert_int_equal(a->A, b->A);
    assert_memory_equal(a->index, b->index, a->R * sizeof(uint32_t));
    assert_memory_equal(a->n, b->n, a->R * sizeof(float));
    assert_memory_equal(a->s1, b->s1, a->R * D * sizeof(float));
    assert_int_equal(a->squares, b->squares);
    assert_memory_equal(a->s2, b->s2, a->R * a->squares * sizeof(float));
    assert_int_equal(a->shared, b->shared);
    if (a->shared)
        assert_memory_equal(a->moment, b->moment, a->shared * sizeof(float));
    if (a->V) {
        assert_memory_equal(a->novel, b->novel, a->V * D * sizeof(float));
        assert_memory_equal(a->novel_distance, b->novel_distance, a->V * sizeof(float));
    }
    if (a->A)
        assert_memory_equal(a->assigned, b->assigned, a->A * sizeof(uint32_t));
    assert_true(a->count == b->count && a->loglik == b->loglik && a->dropped == b->dropped);
}

static inline void encode(const struct batch *b, enum stats_encoding encoding, struct msg *m)
{
    msg_init(m, MSG_STATS, "r");
    assert_int_equal(stats_encode_as(encoding, b->h, &b->g, b->K, b->D, b->covariance, &b->extra, m), 0);
    assert_int_equal(m->encoding, encoding);
}

static inline void decode(const struct batch *b, const struct msg *m, struct stats_rows *s)
{
    enum reason why = 0;
    if (stats_decode(m, b->K, b->D, b->covariance, b->N, s, &why, NULL))
        fail_msg("refused: %s", reason_name(why));
}

#endif
