/* Versions in the cache are those that were published, although a view is filled from the one that it held before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include "common/rng.h"
#include "worker/mixture_cache.h"

enum { K = 30, D = 3 };

static void publish(struct mixture_view *v, struct rng *r, uint32_t moved, struct msg *m)
{
    uint32_t rows[K];
    for (uint32_t i = 0; i < moved; i++) {
        rows[i] = i * K / moved;
        v->mean[rows[i] * D] = (float)rng_normal(r);
        v->variance[rows[i] * D + 1] = 0.1f + rng_uniform(r);
        v->weight[rows[i]] = rng_uniform(r);
        v->log_const[rows[i]] = (float)rng_normal(r);
    }
    v->version++;
    msg_init(m, MSG_MIXTURE, "r");
    assert_int_equal(mixture_encode(v, moved < K ? rows : NULL, moved, m), 0);
}

static void take(struct mixture_cache *c, struct msg *m)
{
    enum reason why = 0;
    assert_int_equal(mixture_cache_apply(c, m, &why), 0);
    msg_fini(m);
}

static void assert_holds(struct mixture_cache *c, const struct mixture_view *want)
{
    struct mixture_held *held = mixture_cache_ref(c, want->version);
    assert_non_null(held);
    assert_memory_equal(held->view->mean, want->mean, K * D * sizeof(float));
    assert_memory_equal(held->view->variance, want->variance, K * D * sizeof(float));
    assert_memory_equal(held->view->weight, want->weight, K * sizeof(float));
    assert_memory_equal(held->view->log_const, want->log_const, K * sizeof(float));
    mixture_cache_unref(c, &held);
}

static struct mixture_view *first_version(struct rng *r, struct msg *m)
{
    struct mixture_view *v;
    assert_int_equal(mixture_view_new(K, D, COVARIANCE_DIAGONAL, &v), 0);
    for (uint32_t i = 0; i < K * D; i++)
        v->variance[i] = 1;
    v->beta = 1;
    publish(v, r, K, m);
    return v;
}

/* Deltas of other rows each time, with a full one between them; sometimes a job still reads an old version, so that the
 * views are not filled in turn. */
static void test_versions_follow(void **state)
{
    (void)state;
    struct mixture_cache c;
    struct mixture_held *read = NULL;
    struct msg m;
    struct rng r;
    rng_open(&r, 7, RNG_JITTER, 0, 0, 0);
    mixture_cache_init(&c, K, D, COVARIANCE_DIAGONAL);
    struct mixture_view *v = first_version(&r, &m);
    take(&c, &m);
    for (uint32_t i = 1; i < 40; i++) {
        if (i % 5 == 0) {
            mixture_cache_unref(&c, &read);
            read = mixture_cache_ref(&c, v->version);
        }
        publish(v, &r, i % 17 == 0 ? K : 1 + i % 6, &m);
        take(&c, &m);
        assert_holds(&c, v);
    }
    mixture_cache_unref(&c, &read);
    mixture_cache_fini(&c);
    mixture_view_free(&v);
}

/* After a clear version numbers come again with other contents: what a spare view holds is of no use then. */
static void test_another_line_of_versions(void **state)
{
    (void)state;
    struct mixture_cache c;
    struct msg m;
    struct rng r;
    rng_open(&r, 8, RNG_JITTER, 0, 0, 0);
    mixture_cache_init(&c, K, D, COVARIANCE_DIAGONAL);
    for (int line = 0; line < 3; line++) {
        struct mixture_view *v = first_version(&r, &m);
        take(&c, &m);
        for (uint32_t i = 1; i < 5; i++) {
            publish(v, &r, 2 + (uint32_t)line, &m);
            take(&c, &m);
            assert_holds(&c, v);
        }
        mixture_cache_clear(&c);
        mixture_view_free(&v);
    }
    mixture_cache_fini(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_follow),
        cmocka_unit_test(test_another_line_of_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
