/* Foreign EM statistics are refused with the right reason: a valid message with one thing changed. */
#include "tests/unit/proto/stats_rig.h"

#include <math.h>
#include <string.h>

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
        cmocka_unit_test(test_refusals_of_every_encoding), cmocka_unit_test(test_refusals_of_sums),
        cmocka_unit_test(test_refusals_of_factors),        cmocka_unit_test(test_no_more_candidates_than_embeddings),
        cmocka_unit_test(test_shapes_of_another_mixture),  cmocka_unit_test(test_a_shared_moment_proves_itself),
        cmocka_unit_test(test_matrices_prove_themselves),  cmocka_unit_test(test_directions_prove_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
