/* The nearest rows against a sort of all cosines, across tiles and blocks, with ties. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "cli/nearest.h"
#include "common/rng.h"
#include "common/vecmath.h"

enum { WIDTH = 8 };

static float *unit_rows(uint32_t rows, uint64_t seed)
{
    struct rng r;
    float *x = malloc(sizeof *x * rows * WIDTH);
    assert_non_null(x);
    rng_open(&r, seed, RNG_INIT, 0, 0, 0);
    for (size_t i = 0; i < (size_t)rows * WIDTH; i++)
        x[i] = (float)rng_normal(&r);
    vec_normalise_rows(x, rows, WIDTH, NULL);
    return x;
}

static int nearer(const void *a, const void *b)
{
    const struct nearest_hit *x = a, *y = b;
    if (x->cosine != y->cosine)
        return x->cosine > y->cosine ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static void assert_hits(const struct nearest_search *s)
{
    struct nearest_hit *hits = malloc(sizeof *hits * s->query_rows * s->k), *all = malloc(sizeof *all * s->bank_rows);
    assert_true(hits && all);
    assert_int_equal(nearest_find(s, hits), 0);
    for (uint32_t i = 0; i < s->query_rows; i++) {
        for (uint32_t b = 0; b < s->bank_rows; b++)
            all[b] =
                (struct nearest_hit){vec_dot(s->queries + (size_t)i * WIDTH, s->bank + (size_t)b * WIDTH, WIDTH), b};
        qsort(all, s->bank_rows, sizeof *all, nearer);
        for (uint32_t j = 0; j < s->k; j++) { /* rounding may swap what is closer than that */
            assert_true(fabsf(hits[i * s->k + j].cosine - all[j].cosine) < 1e-5F);
            assert_true(j == 0 || hits[i * s->k + j].cosine <= hits[i * s->k + j - 1].cosine);
        }
    }
    free(hits);
    free(all);
}

static void test_one(void **state)
{
    const float x[2 * WIDTH] = {1, [WIDTH + 1] = 1};
    struct nearest_hit hit;
    (void)state;
    struct nearest_search s = {
        .bank = x, .queries = x + WIDTH, .bank_rows = 2, .query_rows = 1, .width = WIDTH, .k = 1, .threads = 1};
    assert_int_equal(nearest_find(&s, &hit), 0);
    assert_true(hit.row == 1 && hit.cosine == 1);
}

static void test_against_a_sort(void **state)
{
    (void)state;
    float *bank = unit_rows(5000, 1), *queries = unit_rows(300, 2);
    struct nearest_search s = {.bank = bank, .queries = queries, .bank_rows = 5000, .query_rows = 300, .width = WIDTH};
    for (s.threads = 1; s.threads <= 3; s.threads += 2)
        for (s.k = 1; s.k <= 20; s.k += 19)
            assert_hits(&s);
    s.bank_rows = s.k = 7; /* all of it */
    assert_hits(&s);
    free(bank);
    free(queries);
}

/* Copies of one row, in several tiles: the first ones, in their order. */
static void test_ties_go_to_the_earlier_row(void **state)
{
    enum { ROWS = 4500, K = 5 };
    float *bank = calloc((size_t)ROWS * WIDTH, sizeof *bank);
    struct nearest_hit hits[K];
    (void)state;
    assert_non_null(bank);
    for (size_t i = 0; i < ROWS; i++)
        bank[i * WIDTH + i % 2] = 1;
    struct nearest_search s = {.bank = bank,
                               .queries = bank + WIDTH,
                               .bank_rows = ROWS,
                               .query_rows = 1,
                               .width = WIDTH,
                               .k = K,
                               .threads = 1};
    assert_int_equal(nearest_find(&s, hits), 0);
    for (uint32_t j = 0; j < K; j++)
        assert_true(hits[j].row == 2 * j + 1 && hits[j].cosine == 1);
    free(bank);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_against_a_sort),
        cmocka_unit_test(test_ties_go_to_the_earlier_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
