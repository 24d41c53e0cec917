/* The teacher that a worker computes must have the bytes of the server's, whatever processor and kernels either has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "common/kernels.h"
#include "common/rng.h"
#include "proto/teacher.h"

enum { N = 1037 }; /* no multiple of any vector's length */

static void fill(float *x, uint64_t which)
{
    struct rng r;
    rng_open(&r, 3, RNG_INIT, which, 0, 0);
    for (size_t i = 0; i < N; i++)
        x[i] = rng_normal(&r);
}

/* Each product and the sum rounded to float: what no contraction to FMA gives. */
static void by_definition(float m, const float *teacher, const float *student, float *to)
{
    for (size_t i = 0; i < N; i++) {
        volatile float rest = 1.0f - m, a = m * teacher[i], b = rest * student[i];
        to[i] = a + b;
    }
}

static void test_same_bytes_with_all_kernels(void **state)
{
    float teacher[N], student[N], expected[N], got[N];
    (void)state;
    fill(teacher, 1);
    fill(student, 2);
    by_definition(0.9963f, teacher, student, expected);
    for (enum kernels k = 0; k < KERNELS_COUNT; k++) {
        if (!kernels_possible(k))
            continue;
        assert_int_equal(kernels_choose(kernels_name(k), NULL), 0);
        for (size_t n = N; n > N - 20; n--) { /* every kind of rest */
            memset(got, 0, sizeof got);
            teacher_average(0.9963f, teacher, student, got, n);
            assert_memory_equal(got, expected, n * sizeof *got);
        }
    }
    assert_int_equal(kernels_choose(NULL, NULL), 0);
}

static void add(struct manifest *m, const char *name, uint64_t count, double lr_scale, bool unit_rows)
{
    struct manifest_entry e = {.rank = 1, .shape = {count}, .lr_scale = lr_scale, .unit_rows = unit_rows};
    strcpy(e.name, name);
    assert_int_equal(manifest_add_parameter(m, &e), 0);
}

/* Frozen entries keep their teacher to the bit, which an average of two equal numbers need not; unit rows do not. */
static void test_follow(void **state)
{
    enum { MOVES = 500, FROZEN = 337, UNIT = N - MOVES - FROZEN };
    float teacher[N], student[N], expected[N], got[N];
    struct manifest m;
    (void)state;
    manifest_init(&m);
    add(&m, "moves", MOVES, 1, false);
    add(&m, "frozen", FROZEN, 0, false);
    add(&m, "unit", UNIT, 0, true);
    fill(teacher, 1);
    fill(student, 2);
    by_definition(0.99f, teacher, student, expected);
    memcpy(expected + MOVES, teacher + MOVES, FROZEN * sizeof *teacher);
    teacher_follow(&m, 0.99f, teacher, student, got);
    assert_memory_equal(got, expected, sizeof got);
    teacher_follow(&m, 0.99f, teacher, student, teacher); /* in place */
    assert_memory_equal(teacher, expected, sizeof got);
    manifest_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bytes_with_all_kernels),
                                       cmocka_unit_test(test_follow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
