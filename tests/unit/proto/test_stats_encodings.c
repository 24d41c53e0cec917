/* EM statistics on the wire: every encoding of the same responsibilities decodes to the same floats, and
 * the smallest is taken. */
#include "tests/unit/proto/stats_rig.h"

#include <math.h>
#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_encoding_decodes_to_the_same_floats),
        cmocka_unit_test(test_the_smallest_encoding_is_chosen),
        cmocka_unit_test(test_sparse_responsibilities_are_small_on_the_wire),
        cmocka_unit_test(test_novelty_and_assignments_may_be_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
