/* Random numbers against published vectors and exact laws; distributions against wide, fixed bounds (every draw is a
 * pure function of its name, so these never flicker). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include "common/rng.h"

/* Random123, tests/kat_vectors */
static void test_philox_known_answers(void **state)
{
    (void)state;
    static const uint32_t vectors[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
         0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        philox4x32_10(vectors[i], vectors[i] + 4, out);
        assert_memory_equal(out, vectors[i] + 6, sizeof out);
    }
}

static bool same_start(const uint64_t a[5], const uint64_t b[5])
{
    struct rng r, s;
    rng_open(&r, a[0], (enum rng_purpose)a[1], a[2], a[3], a[4]);
    rng_open(&s, b[0], (enum rng_purpose)b[1], b[2], b[3], b[4]);
    return rng_u32(&r) == rng_u32(&s) && rng_u32(&r) == rng_u32(&s);
}

static void test_every_bit_of_the_name_counts(void **state)
{
    (void)state;
    const uint64_t name[5] = {1, RNG_AUGMENT, 2, 3, 4};
    assert_true(same_start(name, name));
    for (int field = 0; field < 5; field++)
        for (int bit = 0; bit < (field == 1 ? 8 : 64); bit++) {
            uint64_t other[5];
            memcpy(other, name, sizeof other);
            other[field] ^= (uint64_t)1 << bit;
            assert_false(same_start(name, other));
        }
    const uint64_t swapped[5] = {1, RNG_AUGMENT, 3, 2, 4};
    assert_false(same_start(name, swapped));
}

static void test_words_follow_the_blocks(void **state)
{
    (void)state;
    struct rng r;
    uint32_t block[4];
    rng_open(&r, 7, RNG_INIT, 0, 0, 0);
    for (uint32_t i = 0; i < 12; i++) {
        const uint32_t counter[4] = {i / 4, r.counter[1], r.counter[2], r.counter[3]};
        philox4x32_10(counter, r.key, block);
        assert_int_equal(rng_u32(&r), block[i % 4]);
    }
}

static void test_below_is_uniform(void **state)
{
    (void)state;
    struct rng r;
    unsigned counts[6] = {0};
    rng_open(&r, 1, RNG_ORDER, 0, 0, 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(rng_below(&r, 1), 0);
    for (int i = 0; i < 60000; i++)
        counts[rng_below(&r, 6)]++;
    for (int i = 0; i < 6; i++)
        assert_in_range(counts[i], 9600, 10400); /* 4.4 standard deviations */
    /* A biased multiply would give the lower half of [0, 3 * 2^30) twice the share of what is left. */
    unsigned low = 0;
    for (int i = 0; i < 60000; i++)
        low += rng_below(&r, 3u << 30) < 1u << 30;
    assert_in_range(low, 19500, 20500);
}

static void test_uniform_and_normal_have_their_moments(void **state)
{
    (void)state;
    enum { N = 200000 };
    struct rng r;
    double u = 0, z = 0, z2 = 0, z4 = 0;
    rng_open(&r, 2, RNG_INIT, 0, 0, 0);
    for (int i = 0; i < N; i++) {
        float v = rng_uniform(&r);
        assert_true(v >= 0 && v < 1);
        u += v;
        double n = rng_normal(&r);
        assert_true(isfinite(n));
        z += n;
        z2 += n * n;
        z4 += n * n * n * n;
    }
    assert_true(fabs(u / N - 0.5) < 0.003);
    assert_true(fabs(z / N) < 0.01);
    assert_true(fabs(z2 / N - 1) < 0.015);
    assert_true(fabs(z4 / N - 3) < 0.1);
}

static void test_shuffle_is_a_uniform_permutation(void **state)
{
    (void)state;
    struct rng r;
    unsigned orders[27] = {0};
    rng_open(&r, 3, RNG_BLOCKS, 0, 0, 0);
    rng_shuffle(&r, NULL, 0);
    for (int i = 0; i < 6000; i++) {
        uint32_t items[3] = {0, 1, 2};
        rng_shuffle(&r, items, 3);
        assert_int_equal(1u << items[0] | 1u << items[1] | 1u << items[2], 7);
        orders[items[0] * 9 + items[1] * 3 + items[2]]++;
    }
    for (int i = 0; i < 27; i++)
        if (orders[i] > 0)
            assert_in_range(orders[i], 870, 1130);
}

static void check_bijection(uint64_t epoch, uint64_t n)
{
    uint8_t *seen = calloc(n, 1);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t v = permute(42, epoch, i, n);
        assert_true(v < n);
        assert_false(seen[v]);
        seen[v] = 1;
    }
    free(seen);
}

static void test_permute_is_a_bijection(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 300; n++)
        check_bijection(n % 3, n);
    const uint64_t sizes[] = {1023, 1024, 1025, 4095, 4097, 60000, 65536, 65537};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        check_bijection(5, sizes[i]);
}

static void test_permute_reaches_the_largest_domain(void **state)
{
    (void)state;
    const uint64_t n = (uint64_t)1 << 32;
    assert_true(permute(1, 0, 0, n) < n);
    assert_true(permute(1, 0, n - 1, n) < n);
    assert_true(permute(1, 0, 0, n) != permute(1, 0, n - 1, n));
}

static void test_permute_depends_on_seed_and_epoch(void **state)
{
    (void)state;
    unsigned same_epoch = 0, same_seed = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        same_epoch += permute(1, 0, i, 1000) == permute(1, 1, i, 1000);
        same_seed += permute(1, 0, i, 1000) == permute(2, 0, i, 1000);
    }
    assert_true(same_epoch < 10); /* one is expected */
    assert_true(same_seed < 10);
}

/* Each of n places is hit equally often by element 0 over many epochs, also in a tiny domain. */
static void test_permute_spreads(void **state)
{
    (void)state;
    enum { N = 10, EPOCHS = 20000 };
    unsigned counts[N] = {0}, neighbours = 0;
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
        uint64_t first = permute(9, epoch, 0, N);
        counts[first]++;
        neighbours += (first + 1) % N == permute(9, epoch, 1, N);
    }
    for (int i = 0; i < N; i++)
        assert_in_range(counts[i], 1780, 2220);
    assert_in_range(neighbours, 1990, 2460); /* EPOCHS / (N - 1) = 2222 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_every_bit_of_the_name_counts),
        cmocka_unit_test(test_words_follow_the_blocks),
        cmocka_unit_test(test_below_is_uniform),
        cmocka_unit_test(test_uniform_and_normal_have_their_moments),
        cmocka_unit_test(test_shuffle_is_a_uniform_permutation),
        cmocka_unit_test(test_permute_is_a_bijection),
        cmocka_unit_test(test_permute_reaches_the_largest_domain),
        cmocka_unit_test(test_permute_depends_on_seed_and_epoch),
        cmocka_unit_test(test_permute_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
