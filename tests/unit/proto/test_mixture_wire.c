/* Mixture versions: full and delta lead to the same bytes, and a refused message leaves the view as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "common/rng.h"
#include "proto/mixture_wire.h"

enum { K = 20, D = 6 };

static size_t variances(const struct mixture_view *v)
{
    return v->covariance == COVARIANCE_SPHERICAL ? 1 : v->D;
}

static void randomise_row(struct mixture_view *v, struct rng *r, uint32_t k)
{
    for (uint32_t d = 0; d < v->D; d++)
        v->mean[k * v->D + d] = (float)rng_normal(r);
    for (size_t d = 0; d < variances(v); d++)
        v->variance[k * variances(v) + d] = 0.001f + rng_uniform(r);
    v->weight[k] = rng_uniform(r);
    v->log_const[k] = (float)rng_normal(r);
}

static struct mixture_view *random_view(enum covariance c, uint64_t version)
{
    struct mixture_view *v;
    struct rng r;
    rng_open(&r, 3, RNG_MIXTURE, version, 0, 0);
    assert_int_equal(mixture_view_new(K, D, c, &v), 0);
    for (uint32_t k = 0; k < K; k++)
        randomise_row(v, &r, k);
    v->version = version;
    v->beta = 0.75;
    return v;
}

static void assert_same(const struct mixture_view *a, const struct mixture_view *b)
{
    assert_true(a->version == b->version && a->beta == b->beta);
    assert_memory_equal(a->mean, b->mean, K * D * sizeof(float));
    assert_memory_equal(a->variance, b->variance, K * variances(a) * sizeof(float));
    assert_memory_equal(a->weight, b->weight, K * sizeof(float));
    assert_memory_equal(a->log_const, b->log_const, K * sizeof(float));
    assert_int_equal(a->priced, b->priced);
    assert_memory_equal(a->price, b->price, K * sizeof(float));
}

static void apply(struct mixture_view *v, const struct msg *m)
{
    enum reason why = 0;
    if (mixture_apply(v, m, &why))
        fail_msg("refused: %s", reason_name(why));
}

static void check_full(enum covariance c)
{
    struct mixture_view *v = random_view(c, 7), *empty;
    struct msg m;
    assert_int_equal(mixture_view_new(K, D, c, &empty), 0);
    msg_init(&m, MSG_MIXTURE, "r");
    assert_int_equal(mixture_encode(v, NULL, 0, &m), 0);
    assert_int_equal(m.encoding, MIXTURE_FULL);
    assert_int_equal(m.step, 7);
    assert_int_equal(m.tensors[1].rank, c == COVARIANCE_SPHERICAL ? 1 : 2);
    apply(empty, &m);
    assert_same(empty, v);
    msg_fini(&m);
    mixture_view_free(&v);
    mixture_view_free(&empty);
    assert_null(v);
}

static void test_full_reads_back(void **state)
{
    (void)state;
    check_full(COVARIANCE_SPHERICAL);
    check_full(COVARIANCE_DIAGONAL);
}

static void check_delta(enum covariance c, const uint32_t *rows, uint32_t R)
{
    struct mixture_view *follower = random_view(c, 7), *owner = random_view(c, 7);
    struct rng r;
    struct msg m;
    rng_open(&r, 9, RNG_MIXTURE, 0, 0, 0);
    for (uint32_t i = 0; i < R; i++)
        randomise_row(owner, &r, rows[i]);
    owner->version = 8;
    owner->beta = 0.8;
    msg_init(&m, MSG_MIXTURE, "r");
    assert_int_equal(mixture_encode(owner, rows, R, &m), 0);
    assert_int_equal(m.encoding, MIXTURE_DELTA);
    assert_int_equal(m.seq, 7);
    apply(follower, &m);
    assert_same(follower, owner);
    msg_fini(&m);
    mixture_view_free(&follower);
    mixture_view_free(&owner);
}

static void test_delta_leads_to_the_same_bytes_as_full(void **state)
{
    (void)state;
    uint32_t all[K];
    for (uint32_t k = 0; k < K; k++)
        all[k] = k;
    for (int c = COVARIANCE_SPHERICAL; c <= COVARIANCE_DIAGONAL; c++) {
        check_delta(c, all, 0);
        check_delta(c, (uint32_t[]){K - 1}, 1);
        check_delta(c, (uint32_t[]){0, 3, 4, 11}, 4);
        check_delta(c, all, K);
    }
}

static void test_copy_needs_the_same_form(void **state)
{
    (void)state;
    struct mixture_view *a = random_view(COVARIANCE_DIAGONAL, 7), *b = random_view(COVARIANCE_DIAGONAL, 8);
    struct mixture_view *other = random_view(COVARIANCE_SPHERICAL, 8);
    assert_int_equal(mixture_view_copy(b, a), 0);
    assert_same(b, a);
    assert_int_equal(mixture_view_copy(other, a), ERR_RANGE);
    mixture_view_free(&a);
    mixture_view_free(&b);
    mixture_view_free(&other);
    mixture_view_free(&other);
}

static void set_prices(struct mixture_view *v, float first)
{
    v->priced = true;
    for (uint32_t k = 0; k < K; k++)
        v->price[k] = first + (float)k;
}

/* All prices come with a delta of two rows as well, and go when a version has none. */
static void test_prices_are_always_all_there(void **state)
{
    (void)state;
    struct mixture_view *follower = random_view(COVARIANCE_DIAGONAL, 7), *owner = random_view(COVARIANCE_DIAGONAL, 7);
    struct msg m;
    for (uint64_t version = 8; version < 11; version++) {
        owner->version = version;
        owner->priced = false;
        memset(owner->price, 0, K * sizeof *owner->price);
        if (version < 10)
            set_prices(owner, (float)version);
        msg_init(&m, MSG_MIXTURE, "r");
        assert_int_equal(mixture_encode(owner, version == 9 ? NULL : (uint32_t[]){2, 5}, 2, &m), 0);
        apply(follower, &m);
        assert_same(follower, owner);
        assert_true(version == 10 || follower->price[K - 1] == (float)version + K - 1);
        msg_fini(&m);
    }
    mixture_view_free(&follower);
    mixture_view_free(&owner);
}

/* ---- refusals: a valid delta 7 -> 8 with one thing changed, to a view of version 7 ---- */

typedef void damage(struct msg *m);

static void set_float(struct msg *m, uint32_t tensor, size_t at, float value)
{
    memcpy(m->tensors[tensor].data->data + at * sizeof value, &value, sizeof value);
}

static void set_row(struct msg *m, size_t at, uint32_t value)
{
    memcpy(m->tensors[0].data->data + at * sizeof value, &value, sizeof value);
}

static void expect_refused(damage *change, int rc, enum reason reason)
{
    struct mixture_view *before = random_view(COVARIANCE_DIAGONAL, 7), *after = random_view(COVARIANCE_DIAGONAL, 7);
    struct mixture_view *next = random_view(COVARIANCE_DIAGONAL, 8);
    struct msg m;
    enum reason why = 0;
    set_prices(next, 1);
    msg_init(&m, MSG_MIXTURE, "r");
    assert_int_equal(mixture_encode(next, (uint32_t[]){2, 5}, 2, &m), 0);
    change(&m);
    assert_int_equal(mixture_apply(after, &m, &why), rc);
    assert_string_equal(reason_name(why), reason_name(reason));
    assert_same(after, before);
    msg_fini(&m);
    mixture_view_free(&before);
    mixture_view_free(&after);
    mixture_view_free(&next);
}

#define DAMAGE(name, statement)                                                                                        \
    static void name(struct msg *m)                                                                                    \
    {                                                                                                                  \
        statement;                                                                                                     \
    }
DAMAGE(no_encoding, m->encoding = 0)
DAMAGE(gap, m->seq = 8; m->step = 9)
DAMAGE(base_far_away, m->seq = 3)
DAMAGE(full_without_rows_tensors, m->encoding = MIXTURE_FULL)
DAMAGE(rows_absent, m->tensors[0].name[0] = 'x')
DAMAGE(row_over, set_row(m, 1, K))
DAMAGE(rows_not_ascending, set_row(m, 1, 2))
DAMAGE(mean_nan, set_float(m, 1, 3, NAN))
DAMAGE(variance_zero, set_float(m, 2, 11, 0))
DAMAGE(variance_infinite, set_float(m, 2, 0, INFINITY))
DAMAGE(weight_negative, set_float(m, 3, 1, -0.5f))
DAMAGE(log_const_nan, set_float(m, 4, 0, NAN))
DAMAGE(log_const_absent, m->tensors[4].name[0] = 'x')
DAMAGE(price_nan, set_float(m, 5, K - 1, NAN))
DAMAGE(prices_of_the_rows_only, m->tensors[5].shape[0] = 2)
DAMAGE(beta_absent, m->scalar_count = 0)

static void test_refused_messages_change_nothing(void **state)
{
    (void)state;
    expect_refused(no_encoding, ERR_FORMAT, REASON_BAD_ENCODING);
    expect_refused(gap, ERR_STATE, REASON_UNKNOWN_VERSION);
    expect_refused(base_far_away, ERR_FORMAT, REASON_BAD_FIELD);
    expect_refused(full_without_rows_tensors, ERR_FORMAT, REASON_BAD_SHAPE);
    expect_refused(rows_absent, ERR_FORMAT, REASON_BAD_FIELD);
    expect_refused(row_over, ERR_FORMAT, REASON_BAD_VALUE);
    expect_refused(rows_not_ascending, ERR_FORMAT, REASON_BAD_VALUE);
    expect_refused(mean_nan, ERR_FORMAT, REASON_NON_FINITE);
    expect_refused(variance_zero, ERR_FORMAT, REASON_BAD_VALUE);
    expect_refused(variance_infinite, ERR_FORMAT, REASON_NON_FINITE);
    expect_refused(weight_negative, ERR_FORMAT, REASON_BAD_VALUE);
    expect_refused(log_const_nan, ERR_FORMAT, REASON_NON_FINITE);
    expect_refused(log_const_absent, ERR_FORMAT, REASON_BAD_FIELD);
    expect_refused(price_nan, ERR_FORMAT, REASON_NON_FINITE);
    expect_refused(prices_of_the_rows_only, ERR_FORMAT, REASON_BAD_SHAPE);
    expect_refused(beta_absent, ERR_FORMAT, REASON_BAD_VALUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_reads_back),
        cmocka_unit_test(test_delta_leads_to_the_same_bytes_as_full),
        cmocka_unit_test(test_copy_needs_the_same_form),
        cmocka_unit_test(test_prices_are_always_all_there),
        cmocka_unit_test(test_refused_messages_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
