/* EM statistics: every encoding of the same responsibilities decodes to the same floats, sums are exact in the tree,
 * and foreign statistics are refused with the right reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "common/rng.h"
#include "common/vecmath.h"
#include "proto/stats.h"

/* ---- random responsibilities ---- */

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
static void add_embedding(struct batch *b, struct rng *r, uint32_t i, uint32_t per_row)
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

static void batch_init(struct batch *b, uint64_t seed, uint32_t N, uint32_t K, uint32_t D, uint32_t per_row)
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

static void batch_fini(struct batch *b)
{
    free(b->h);
    free(b->start);
    free(b->index);
    free(b->gamma);
    free(b->assigned);
    free(b->novel);
    free(b->distance);
}

static void assert_same(const struct stats_rows *a, const struct stats_rows *b)
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

/* Dense (K,D) sums as the definition says, one embedding after the other, rounded after every operation. */
static void reference(const struct batch *b, float *n, float *s1, float *s2)
{
    for (uint32_t i = 0; i < b->N; i++)
        for (uint32_t z = b->start[i]; z < b->start[i + 1]; z++) {
            size_t k = b->index[z];
            n[k] += b->gamma[z];
            for (uint32_t d = 0; d < b->D; d++) {
                volatile float weighted = b->gamma[z] * b->h[i * b->D + d]; /* volatile: no fused rounding */
                volatile float square = weighted * b->h[i * b->D + d];
                s1[k * b->D + d] += weighted;
                s2[k * b->D + d] += square;
            }
        }
}

/* An element below the diagonal, of the last row, as the definition says. */
static void check_matrix(const struct batch *b, const struct stats_rows *s)
{
    uint32_t D = b->D, r = s->R - 1, k = s->index[r];
    float sum = 0;
    for (uint32_t i = 0; i < b->N; i++)
        for (uint32_t z = b->start[i]; z < b->start[i + 1]; z++)
            if (b->index[z] == k) {
                volatile float weighted = b->gamma[z] * b->h[i * D + D - 1];
                volatile float product = weighted * b->h[i * D];
                sum += product;
            }
    assert_true(s->s2[((size_t)r * D + D - 1) * D] == sum);
}

static void check_against_reference(uint32_t N, uint32_t K, uint32_t D, uint32_t per_row)
{
    struct batch b;
    struct stats_rows s;
    batch_init(&b, 1, N, K, D, per_row);
    float *n = calloc(K, sizeof *n), *s1 = calloc((size_t)K * D, sizeof *s1), *s2 = calloc((size_t)K * D, sizeof *s2);
    reference(&b, n, s1, s2);
    assert_int_equal(stats_accumulate(b.h, &b.g, K, D, COVARIANCE_DIAGONAL, &s), 0);
    uint32_t r = 0;
    for (uint32_t k = 0; k < K; k++) {
        if (n[k] == 0)
            continue;
        assert_true(r < s.R && s.index[r] == k && s.n[r] == n[k]);
        assert_memory_equal(s.s1 + (size_t)r * D, s1 + (size_t)k * D, D * sizeof(float));
        assert_memory_equal(s.s2 + (size_t)r * D, s2 + (size_t)k * D, D * sizeof(float));
        r++;
    }
    assert_int_equal(r, s.R);
    assert_true(s.count == N);
    struct stats_rows once; /* without squares the rest is the same */
    assert_int_equal(stats_accumulate(b.h, &b.g, K, D, COVARIANCE_VMF, &once), 0);
    assert_true(once.R == s.R && once.squares == 0);
    assert_memory_equal(once.n, s.n, s.R * sizeof(float));
    assert_memory_equal(once.s1, s.s1, (size_t)s.R * D * sizeof(float));
    stats_rows_fini(&once);
    struct stats_rows full; /* its matrices are symmetric, and their diagonals the squares by dimension */
    assert_int_equal(stats_accumulate(b.h, &b.g, K, D, COVARIANCE_FULL, &full), 0);
    assert_true(full.R == s.R && full.squares == D * D);
    assert_memory_equal(full.s1, s.s1, (size_t)s.R * D * sizeof(float));
    for (size_t i = 0; i < (size_t)s.R * D * D; i++) {
        size_t row = i / (D * D), a = i / D % D, c = i % D;
        assert_true(full.s2[i] == full.s2[(row * D + c) * D + a] && (a != c || full.s2[i] == s.s2[row * D + a]));
    }
    check_matrix(&b, &full);
    stats_rows_fini(&full);
    free(n);
    free(s1);
    free(s2);
    stats_rows_fini(&s);
    batch_fini(&b);
}

static void test_accumulate_is_the_definition_bit_for_bit(void **state)
{
    (void)state;
    check_against_reference(1, 1, 1, 1);
    check_against_reference(1, 5, 3, 2);
    check_against_reference(64, 32, 8, 32);
    check_against_reference(50, 1000, 33, 7);
    check_against_reference(40, 64, 64, 5);
    check_against_reference(300, 40, 161, 3);
}

static void test_components_touched_by_zeros_have_no_row(void **state)
{
    (void)state;
    const float h[2] = {0.6f, 0.8f}, gamma[2] = {0, 1};
    const uint32_t start[2] = {0, 2}, index[2] = {3, 4};
    const struct responsibilities g = {1, start, index, gamma};
    struct stats_rows s;
    assert_int_equal(stats_accumulate(h, &g, 8, 2, COVARIANCE_DIAGONAL, &s), 0);
    assert_int_equal(s.R, 1);
    assert_int_equal(s.index[0], 4);
    stats_rows_fini(&s);
}

static void test_embeddings_without_responsibilities_leave_out_nothing(void **state)
{
    (void)state;
    const float h[10] = {1, 0, 0, 1, 0.6f, 0.8f, -1, 0, 0, -1}, gamma[3] = {1, 0.25f, 0.75f};
    const uint32_t start[6] = {0, 0, 1, 1, 3, 3}, index[3] = {6, 2, 6};
    const struct responsibilities g = {5, start, index, gamma};
    struct stats_rows s;
    assert_int_equal(stats_accumulate(h, &g, 8, 2, COVARIANCE_DIAGONAL, &s), 0);
    assert_int_equal(s.R, 2);
    assert_true(s.n[0] == 0.25f && s.s1[0] == -0.25f && s.s1[1] == 0);
    assert_true(s.n[1] == 1.75f && s.s1[2] == -0.75f && s.s1[3] == 1);
    stats_rows_fini(&s);
}

/* ---- encodings ---- */

static void encode(const struct batch *b, enum stats_encoding encoding, struct msg *m)
{
    msg_init(m, MSG_STATS, "r");
    assert_int_equal(stats_encode_as(encoding, b->h, &b->g, b->K, b->D, b->covariance, &b->extra, m), 0);
    assert_int_equal(m->encoding, encoding);
}

static void decode(const struct batch *b, const struct msg *m, struct stats_rows *s)
{
    enum reason why = 0;
    if (stats_decode(m, b->K, b->D, b->covariance, b->N, s, &why, NULL))
        fail_msg("refused: %s", reason_name(why));
}

static void check_encodings(enum covariance c, uint64_t seed, uint32_t N, uint32_t K, uint32_t D, uint32_t per_row)
{
    struct batch b;
    struct msg m;
    struct stats_rows s[STATS_FACTORED + 1];
    batch_init(&b, seed, N, K, D, per_row);
    b.covariance = c;
    b.extra.S = N / 2;
    for (int e = STATS_DENSE; e <= STATS_FACTORED; e++) {
        encode(&b, e, &m);
        decode(&b, &m, &s[e]);
        msg_fini(&m);
    }
    assert_same(&s[STATS_ROWS], &s[STATS_DENSE]);
    assert_same(&s[STATS_FACTORED], &s[STATS_DENSE]);
    assert_int_equal(s[STATS_DENSE].V, b.extra.V);
    assert_int_equal(s[STATS_DENSE].A, N);
    for (int e = STATS_DENSE; e <= STATS_FACTORED; e++) {
        assert_int_equal(s[e].S, N / 2);
        assert_memory_equal(s[e].sample, b.h, (size_t)(N / 2) * D * sizeof *b.h);
    }
    for (int e = STATS_DENSE; e <= STATS_FACTORED; e++)
        stats_rows_fini(&s[e]);
    batch_fini(&b);
}

static void test_every_encoding_decodes_to_the_same_floats(void **state)
{
    (void)state;
    for (int c = COVARIANCE_SPHERICAL; c <= COVARIANCE_TIED; c++) {
        check_encodings(c, 1, 1, 1, 1, 1);
        check_encodings(c, 2, 64, 32, 8, 32);
        for (uint64_t seed = 3; seed < 20; seed++)
            check_encodings(c, seed, 1 + (uint32_t)seed * 5, 200, c >= COVARIANCE_FULL ? 9 : 48,
                            1 + (uint32_t)seed % 9);
    }
}

static size_t message_bytes(const struct msg *m)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++)
        bytes += m->tensors[i].data->size;
    return bytes;
}

static void check_smallest(enum covariance c, uint32_t N, uint32_t K, uint32_t D, uint32_t per_row,
                           enum stats_encoding expected)
{
    struct batch b;
    struct msg m, other;
    batch_init(&b, 7, N, K, D, per_row);
    b.covariance = c;
    msg_init(&m, MSG_STATS, "r");
    assert_int_equal(stats_encode(b.h, &b.g, K, D, c, &b.extra, &m), 0);
    assert_int_equal(m.encoding, expected);
    for (int e = STATS_DENSE; e <= STATS_FACTORED; e++) {
        encode(&b, e, &other);
        assert_true(message_bytes(&m) <= message_bytes(&other));
        msg_fini(&other);
    }
    msg_fini(&m);
    batch_fini(&b);
}

static void test_the_smallest_encoding_is_chosen(void **state)
{
    (void)state;
    check_smallest(COVARIANCE_DIAGONAL, 200, 8, 16, 8, STATS_DENSE);
    check_smallest(COVARIANCE_DIAGONAL, 200, 2000, 16, 1, STATS_FACTORED);
    check_smallest(COVARIANCE_DIAGONAL, 2000, 4000, 4, 2, STATS_FACTORED);
    check_smallest(COVARIANCE_DIAGONAL, 5, 4000, 4, 4, STATS_FACTORED);
    check_smallest(COVARIANCE_VMF, 200, 8, 16, 8, STATS_DENSE);
    check_smallest(COVARIANCE_DIAGONAL, 60, 61, 16, 1, STATS_FACTORED);
    check_smallest(COVARIANCE_VMF, 60, 61, 16, 1, STATS_ROWS); /* half of what the sums were */
    /* many embeddings on few of many components */
    struct batch b;
    struct msg m;
    batch_init(&b, 7, 300, 8, 4, 2);
    msg_init(&m, MSG_STATS, "r");
    assert_int_equal(stats_encode(b.h, &b.g, 1000, b.D, COVARIANCE_DIAGONAL, &b.extra, &m), 0);
    assert_int_equal(m.encoding, STATS_ROWS);
    msg_fini(&m);
    batch_fini(&b);
}

/* 256 embeddings, eight components each, in the largest mixture that we look after: a 300th of dense sums. */
static void test_sparse_responsibilities_are_small_on_the_wire(void **state)
{
    (void)state;
    enum { MANY = 65536, N = 256, WIDTH = 256, EACH = 8 };
    float *h = calloc((size_t)N * WIDTH, sizeof *h), gamma[N * EACH];
    uint32_t start[N + 1] = {0}, index[N * EACH];
    for (uint32_t i = 0; i < N; i++) {
        h[i * WIDTH + i] = 1;
        for (uint32_t j = 0; j < EACH; j++) {
            index[i * EACH + j] = (i + j * N) * (MANY / N / EACH);
            gamma[i * EACH + j] = 1.0f / EACH;
        }
        start[i + 1] = (i + 1) * EACH;
    }
    struct responsibilities g = {N, start, index, gamma};
    struct stats_extra extra = {.loglik = 1};
    struct msg m;
    uint64_t bytes = 0, dense = (uint64_t)MANY * (1 + 2 * WIDTH) * 4;
    msg_init(&m, MSG_STATS, "r");
    assert_int_equal(stats_encode(h, &g, MANY, WIDTH, COVARIANCE_DIAGONAL, &extra, &m), 0);
    for (uint32_t i = 0; i < m.tensor_count; i++)
        bytes += m.tensors[i].data->size;
    assert_int_equal(m.encoding, STATS_FACTORED);
    assert_true(300 * bytes <= dense);
    msg_fini(&m);
    free(h);
}

static void test_novelty_and_assignments_may_be_left_out(void **state)
{
    (void)state;
    struct batch b;
    struct msg m;
    struct stats_rows s;
    batch_init(&b, 1, 4, 4, 2, 2);
    b.extra = (struct stats_extra){.loglik = -1};
    encode(&b, STATS_ROWS, &m);
    decode(&b, &m, &s);
    assert_int_equal(s.V, 0);
    assert_int_equal(s.A, 0);
    assert_true(s.loglik == -1);
    stats_rows_fini(&s);
    msg_fini(&m);
    batch_fini(&b);
}

/* ---- sums ---- */

static void test_tree_of_rows_is_the_dense_tree_bit_for_bit(void **state)
{
    (void)state;
    enum { SLOTS = 8, N = 12, K = 60, D = 19 };
    struct stats_rows s[SLOTS];
    static float dense[SLOTS][K * D], mass[SLOTS][K];
    memset(dense, 0, sizeof dense);
    memset(mass, 0, sizeof mass);
    for (int t = 0; t < SLOTS; t++) {
        struct batch b;
        batch_init(&b, 100 + (uint64_t)t, N, K, D, 1 + (uint32_t)t % 4);
        struct msg m;
        encode(&b, STATS_FACTORED, &m);
        decode(&b, &m, &s[t]);
        for (uint32_t r = 0; r < s[t].R; r++) {
            mass[t][s[t].index[r]] = s[t].n[r];
            memcpy(&dense[t][s[t].index[r] * D], s[t].s2 + r * D, D * sizeof(float));
        }
        msg_fini(&m);
        batch_fini(&b);
    }
    for (int width = 1; width < SLOTS; width *= 2)
        for (int t = 0; t < SLOTS; t += 2 * width) {
            assert_int_equal(stats_rows_add(&s[t], &s[t + width]), 0);
            for (int x = 0; x < K * D; x++)
                dense[t][x] += dense[t + width][x];
            for (int k = 0; k < K; k++)
                mass[t][k] += mass[t + width][k];
        }
    uint32_t with_mass = 0;
    for (int k = 0; k < K; k++)
        with_mass += mass[0][k] != 0;
    assert_int_equal(s[0].R, with_mass);
    for (uint32_t r = 0; r < s[0].R; r++) {
        assert_true(s[0].n[r] == mass[0][s[0].index[r]]);
        assert_memory_equal(s[0].s2 + r * D, &dense[0][s[0].index[r] * D], D * sizeof(float));
    }
    assert_int_equal(s[0].V, 2 * SLOTS);
    assert_int_equal(s[0].A, N * SLOTS);
    assert_true(s[0].count == N * SLOTS);
    stats_rows_fini(&s[0]);
}

static void test_sum_with_nothing_and_of_disjoint_rows(void **state)
{
    (void)state;
    const float h[2] = {0.6f, 0.8f}, gamma[1] = {1};
    const uint32_t start[2] = {0, 1}, low[1] = {0}, high[1] = {7};
    struct stats_rows a, b, nothing = {.K = 8, .D = 2, .squares = 2};
    assert_int_equal(
        stats_accumulate(h, &(struct responsibilities){1, start, high, gamma}, 8, 2, COVARIANCE_DIAGONAL, &a), 0);
    assert_int_equal(
        stats_accumulate(h, &(struct responsibilities){1, start, low, gamma}, 8, 2, COVARIANCE_DIAGONAL, &b), 0);
    assert_int_equal(stats_rows_add(&a, &b), 0);
    assert_null(b.index);
    assert_int_equal(a.R, 2);
    assert_int_equal(a.index[0], 0);
    assert_int_equal(a.index[1], 7);
    assert_int_equal(stats_rows_add(&a, &nothing), 0);
    assert_int_equal(a.R, 2);
    assert_true(a.s1[0] == 0.6f && a.s1[2] == 0.6f && a.count == 2);
    stats_rows_fini(&a);
}

/* ---- refusals: a valid message with one thing changed ---- */

static struct msg_tensor *tensor(struct msg *m, const char *name)
{
    for (uint32_t i = 0; i < m->tensor_count; i++)
        if (strcmp(m->tensors[i].name, name) == 0)
            return &m->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void set_float(struct msg *m, const char *name, size_t at, float value)
{
    memcpy(tensor(m, name)->data->data + at * sizeof value, &value, sizeof value);
}

static void set_u32(struct msg *m, const char *name, size_t at, uint32_t value)
{
    memcpy(tensor(m, name)->data->data + at * sizeof value, &value, sizeof value);
}

static void set_scalar(struct msg *m, const char *name, double value)
{
    for (uint32_t i = 0; i < m->scalar_count; i++)
        if (strcmp(m->scalars[i].name, name) == 0)
            m->scalars[i].value = value;
}

typedef void damage(struct msg *m);

static void expect_refused_of(enum covariance c, enum stats_encoding encoding, damage *change, enum reason reason)
{
    struct batch b;
    struct msg m;
    struct stats_rows s;
    enum reason why = 0;
    batch_init(&b, 5, 6, 10, 4, 2);
    b.covariance = c;
    b.extra.S = 3;
    encode(&b, encoding, &m);
    change(&m);
    assert_int_equal(stats_decode(&m, b.K, b.D, c, b.N, &s, &why, NULL), ERR_FORMAT);
    assert_string_equal(reason_name(why), reason_name(reason));
    assert_null(s.index);
    assert_int_equal(s.R, 0);
    msg_fini(&m);
    batch_fini(&b);
}

static void expect_refused(enum stats_encoding encoding, damage *change, enum reason reason)
{
    expect_refused_of(COVARIANCE_DIAGONAL, encoding, change, reason);
}

#define DAMAGE(name, statement)                                                                                        \
    static void name(struct msg *m)                                                                                    \
    {                                                                                                                  \
        statement;                                                                                                     \
    }
DAMAGE(no_encoding, m->encoding = 0)
DAMAGE(count_zero, set_scalar(m, "count", 0))
DAMAGE(count_over, set_scalar(m, "count", 7))
DAMAGE(count_broken, set_scalar(m, "count", 5.5))
DAMAGE(count_other, set_scalar(m, "count", 5))
DAMAGE(dropped_negative, set_scalar(m, "dropped", -1))
DAMAGE(novel_nan, set_float(m, "novel", 0, NAN))
DAMAGE(distance_over, set_float(m, "novel_distance", 0, 3))
DAMAGE(sample_nan, set_float(m, "sample", 0, NAN))
DAMAGE(sample_long, set_float(m, "sample", 5, 1.5f))
DAMAGE(sample_vector, tensor(m, "sample")->rank = 1)
DAMAGE(sample_over, tensor(m, "sample")->shape[0] = 7)
DAMAGE(sample_narrow, tensor(m, "sample")->shape[1] = 3)
DAMAGE(sample_whole, tensor(m, "sample")->dtype = DTYPE_U32)
DAMAGE(assigned_over, set_u32(m, "assigned", 2, 10))
DAMAGE(mass_negative, set_float(m, "n", 1, -1))
DAMAGE(mass_too_much, set_float(m, "n", 1, 100))
DAMAGE(square_negative, set_float(m, "s2", 0, -1))
DAMAGE(sum_infinite, set_float(m, "s1", 0, INFINITY))
DAMAGE(sum_huge, set_float(m, "s1", 0, 1e30f))
DAMAGE(index_over, set_u32(m, "index", 0, 10))
DAMAGE(index_twice, set_u32(m, "index", 1, 0); set_u32(m, "index", 0, 0))
DAMAGE(dtype_other, tensor(m, "index")->dtype = DTYPE_F32)
DAMAGE(embedding_nan, set_float(m, "h", 3, NAN))
DAMAGE(embedding_long, set_float(m, "h", 3, 1.5f))
DAMAGE(novel_zero, for (size_t i = 0; i < 4; i++) set_float(m, "novel", i, 0))
DAMAGE(square_too_small, set_float(m, "s2", 0, 0); set_float(m, "s1", 0, 0.5f))
DAMAGE(directions_absent, tensor(m, "s1")->name[0] = 'x')
DAMAGE(sum_too_large, set_float(m, "s1", 0, 4))
DAMAGE(start_late, set_u32(m, "start", 0, 1))
DAMAGE(start_short, set_u32(m, "start", 6, 11))
DAMAGE(start_backwards, set_u32(m, "start", 2, 100))
DAMAGE(gamma_over, set_float(m, "gamma", 0, 1.5f))
DAMAGE(gamma_negative, set_float(m, "gamma", 0, -0.5f))
DAMAGE(gamma_not_one, set_float(m, "gamma", 0, 0); set_float(m, "gamma", 1, 0.5f))

/* A tensor is renamed: the wanted one is absent. */
DAMAGE(embedding_absent, tensor(m, "h")->name[0] = 'x')
DAMAGE(distance_absent, tensor(m, "novel_distance")->name[0] = 'x')

static void test_refusals_of_every_encoding(void **state)
{
    (void)state;
    for (int e = STATS_DENSE; e <= STATS_FACTORED; e++) {
        expect_refused(e, no_encoding, REASON_BAD_ENCODING);
        expect_refused(e, count_zero, REASON_OUT_OF_RANGE);
        expect_refused(e, count_over, REASON_OUT_OF_RANGE);
        expect_refused(e, count_broken, REASON_BAD_VALUE);
        expect_refused(e, dropped_negative, REASON_BAD_VALUE);
        expect_refused(e, novel_nan, REASON_NON_FINITE);
        expect_refused(e, novel_zero, REASON_BAD_VALUE);
        expect_refused(e, distance_over, REASON_BAD_VALUE);
        expect_refused(e, sample_nan, REASON_NON_FINITE);
        expect_refused(e, sample_long, REASON_BAD_VALUE);
        expect_refused(e, sample_vector, REASON_BAD_SHAPE);
        expect_refused(e, sample_over, REASON_TOO_LARGE);
        expect_refused(e, sample_narrow, REASON_BAD_SHAPE);
        expect_refused(e, sample_whole, REASON_BAD_DTYPE);
        expect_refused(e, distance_absent, REASON_BAD_FIELD);
        expect_refused(e, assigned_over, REASON_OUT_OF_RANGE);
    }
}

static void test_refusals_of_sums(void **state)
{
    (void)state;
    for (int e = STATS_DENSE; e <= STATS_ROWS; e++) {
        expect_refused(e, count_other, REASON_BAD_VALUE);
        expect_refused(e, mass_negative, REASON_BAD_VALUE);
        expect_refused(e, mass_too_much, REASON_BAD_VALUE);
        expect_refused(e, square_negative, REASON_BAD_VALUE);
        expect_refused(e, sum_infinite, REASON_NON_FINITE);
        expect_refused(e, sum_huge, REASON_BAD_VALUE);
        expect_refused(e, sum_too_large, REASON_BAD_VALUE);
        expect_refused(e, square_too_small, REASON_BAD_VALUE);
    }
    expect_refused(STATS_ROWS, index_over, REASON_OUT_OF_RANGE);
    expect_refused(STATS_ROWS, index_twice, REASON_BAD_VALUE);
    expect_refused(STATS_ROWS, dtype_other, REASON_BAD_DTYPE);
}

static void test_refusals_of_factors(void **state)
{
    (void)state;
    expect_refused(STATS_FACTORED, count_other, REASON_BAD_SHAPE);
    expect_refused(STATS_FACTORED, embedding_absent, REASON_BAD_FIELD);
    expect_refused(STATS_FACTORED, embedding_nan, REASON_NON_FINITE);
    expect_refused(STATS_FACTORED, embedding_long, REASON_BAD_VALUE);
    expect_refused(STATS_FACTORED, start_late, REASON_BAD_VALUE);
    expect_refused(STATS_FACTORED, start_short, REASON_BAD_VALUE);
    expect_refused(STATS_FACTORED, start_backwards, REASON_BAD_VALUE);
    expect_refused(STATS_FACTORED, index_over, REASON_OUT_OF_RANGE);
    expect_refused(STATS_FACTORED, index_twice, REASON_BAD_VALUE);
    expect_refused(STATS_FACTORED, dtype_other, REASON_BAD_DTYPE);
    expect_refused(STATS_FACTORED, gamma_over, REASON_BAD_VALUE);
    expect_refused(STATS_FACTORED, gamma_negative, REASON_BAD_VALUE);
    expect_refused(STATS_FACTORED, gamma_not_one, REASON_BAD_VALUE);
}

/* More candidates than embeddings would let one message claim any amount of memory, slot after slot. */
static void test_no_more_candidates_than_embeddings(void **state)
{
    (void)state;
    struct batch b;
    struct msg m;
    struct stats_rows s;
    struct error detail = {0};
    enum reason why = 0;
    batch_init(&b, 5, 1, 10, 4, 2);
    b.extra.V = 2;
    encode(&b, STATS_FACTORED, &m);
    assert_int_equal(stats_decode(&m, b.K, b.D, COVARIANCE_DIAGONAL, 64, &s, &why, &detail), ERR_FORMAT);
    assert_int_equal(why, REASON_TOO_LARGE);
    assert_string_equal(detail.text, "novel has 2 rows, at most 1 are possible");
    msg_fini(&m);
    batch_fini(&b);
}

/* The mixture's own K and D decide, not the message's. */
static void test_shapes_of_another_mixture(void **state)
{
    (void)state;
    struct batch b;
    struct msg m;
    struct stats_rows s;
    enum reason why = 0;
    batch_init(&b, 5, 6, 10, 4, 2);
    for (int e = STATS_DENSE; e <= STATS_FACTORED; e++) {
        encode(&b, e, &m);
        assert_int_equal(stats_decode(&m, b.K, b.D + 1, COVARIANCE_DIAGONAL, b.N, &s, &why, NULL), ERR_FORMAT);
        assert_int_equal(why, REASON_BAD_SHAPE);
        msg_fini(&m);
    }
    encode(&b, STATS_DENSE, &m);
    assert_int_equal(stats_decode(&m, b.K + 1, b.D, COVARIANCE_DIAGONAL, b.N, &s, &why, NULL), ERR_FORMAT);
    assert_int_equal(why, REASON_BAD_SHAPE);
    msg_fini(&m);
    batch_fini(&b);
}

/* Element (1, 0) of the first matrix, and then its mirror image. */
DAMAGE(matrix_askew, set_float(m, "s2", 4, 0.9f))
DAMAGE(matrix_too_large, set_float(m, "s2", 4, 1.5f); set_float(m, "s2", 1, 1.5f))
DAMAGE(matrix_trace, for (size_t i = 0; i < 4; i++) set_float(m, "s2", 5 * i, 0.9f))
DAMAGE(shared_askew, set_float(m, "s2", 4, 5))
DAMAGE(shared_trace, for (size_t i = 0; i < 4; i++) set_float(m, "s2", 5 * i, 3))
DAMAGE(moment_absent, tensor(m, "s2")->name[0] = 'x')
DAMAGE(matrix_infinite, set_float(m, "s2", 6, INFINITY))

/* Sums of neighbours add it up; it is what all embeddings are, however their gammas fall. */
static void test_the_shared_moment_is_of_all_embeddings(void **state)
{
    (void)state;
    struct batch b;
    struct stats_rows whole, first, second;
    batch_init(&b, 3, 10, 20, 4, 2);
    struct responsibilities head = b.g, tail = b.g;
    uint32_t start[6];
    head.N = tail.N = 5;
    for (uint32_t i = 0; i <= 5; i++)
        start[i] = b.start[5 + i] - b.start[5];
    tail = (struct responsibilities){5, start, b.index + b.start[5], b.gamma + b.start[5]};
    assert_int_equal(stats_accumulate(b.h, &b.g, 20, 4, COVARIANCE_TIED, &whole), 0);
    assert_int_equal(stats_accumulate(b.h, &head, 20, 4, COVARIANCE_TIED, &first), 0);
    assert_int_equal(stats_accumulate(b.h + 5 * 4, &tail, 20, 4, COVARIANCE_TIED, &second), 0);
    assert_int_equal(stats_rows_add(&first, &second), 0);
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            double want = 0;
            for (size_t n = 0; n < 10; n++)
                want += (double)b.h[n * 4 + i] * (double)b.h[n * 4 + j];
            assert_true(fabs((double)whole.moment[i * 4 + j] - want) < 1e-5);
            assert_true(fabs((double)first.moment[i * 4 + j] - want) < 1e-5);
            assert_true(whole.moment[i * 4 + j] == whole.moment[j * 4 + i]);
        }
    stats_rows_fini(&whole);
    stats_rows_fini(&first);
    batch_fini(&b);
}

/* s1 of a row more than the moment has room for, though no more than its mass. */
DAMAGE(moment_and_sums_differ, for (size_t i = 0; i < 4; i++) set_float(m, "s2", 5 * i, i == 3 ? 6 : 0);
       for (size_t i = 0; i < 16; i++) if (i % 5 > 0) set_float(m, "s2", i, 0))

static void test_a_shared_moment_proves_itself(void **state)
{
    (void)state;
    for (int e = STATS_DENSE; e <= STATS_ROWS; e++) {
        expect_refused_of(COVARIANCE_TIED, e, mass_negative, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_TIED, e, sum_too_large, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_TIED, e, square_negative, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_TIED, e, shared_askew, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_TIED, e, shared_trace, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_TIED, e, moment_and_sums_differ, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_TIED, e, matrix_infinite, REASON_NON_FINITE);
        expect_refused_of(COVARIANCE_TIED, e, moment_absent, REASON_BAD_FIELD);
    }
}

static void test_matrices_prove_themselves(void **state)
{
    (void)state;
    for (int e = STATS_DENSE; e <= STATS_ROWS; e++) {
        expect_refused_of(COVARIANCE_FULL, e, mass_negative, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_FULL, e, sum_too_large, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_FULL, e, square_negative, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_FULL, e, matrix_askew, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_FULL, e, matrix_too_large, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_FULL, e, matrix_trace, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_FULL, e, matrix_infinite, REASON_NON_FINITE);
    }
}

/* Without squares nothing bounds an element but the length of the whole. */
static void test_directions_prove_themselves(void **state)
{
    (void)state;
    for (int e = STATS_DENSE; e <= STATS_ROWS; e++) {
        expect_refused_of(COVARIANCE_VMF, e, mass_negative, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_VMF, e, mass_too_much, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_VMF, e, sum_infinite, REASON_NON_FINITE);
        expect_refused_of(COVARIANCE_VMF, e, sum_huge, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_VMF, e, sum_too_large, REASON_BAD_VALUE);
        expect_refused_of(COVARIANCE_VMF, e, directions_absent, REASON_BAD_FIELD);
    }
    expect_refused_of(COVARIANCE_VMF, STATS_FACTORED, embedding_long, REASON_BAD_VALUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accumulate_is_the_definition_bit_for_bit),
        cmocka_unit_test(test_components_touched_by_zeros_have_no_row),
        cmocka_unit_test(test_embeddings_without_responsibilities_leave_out_nothing),
        cmocka_unit_test(test_every_encoding_decodes_to_the_same_floats),
        cmocka_unit_test(test_the_smallest_encoding_is_chosen),
        cmocka_unit_test(test_sparse_responsibilities_are_small_on_the_wire),
        cmocka_unit_test(test_novelty_and_assignments_may_be_left_out),
        cmocka_unit_test(test_tree_of_rows_is_the_dense_tree_bit_for_bit),
        cmocka_unit_test(test_sum_with_nothing_and_of_disjoint_rows),
        cmocka_unit_test(test_refusals_of_every_encoding),
        cmocka_unit_test(test_refusals_of_sums),
        cmocka_unit_test(test_refusals_of_factors),
        cmocka_unit_test(test_no_more_candidates_than_embeddings),
        cmocka_unit_test(test_shapes_of_another_mixture),
        cmocka_unit_test(test_directions_prove_themselves),
        cmocka_unit_test(test_matrices_prove_themselves),
        cmocka_unit_test(test_the_shared_moment_is_of_all_embeddings),
        cmocka_unit_test(test_a_shared_moment_proves_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
