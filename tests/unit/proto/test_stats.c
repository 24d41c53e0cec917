/* EM statistics: sums are those of the definition, exact in the tree, and take any order of rows. */
#include "tests/unit/proto/stats_rig.h"

#include <math.h>
#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accumulate_is_the_definition_bit_for_bit),
        cmocka_unit_test(test_components_touched_by_zeros_have_no_row),
        cmocka_unit_test(test_embeddings_without_responsibilities_leave_out_nothing),
        cmocka_unit_test(test_tree_of_rows_is_the_dense_tree_bit_for_bit),
        cmocka_unit_test(test_sum_with_nothing_and_of_disjoint_rows),
        cmocka_unit_test(test_the_shared_moment_is_of_all_embeddings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
