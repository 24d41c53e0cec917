/* Logits of single pairs: what the tiles make of the same rows, to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "common/kernels.h"
#include "common/rng.h"
#include "tests/unit/worker/fused.h"
#include "worker/nn/tiles.h"
#include "worker/refine.h"

enum { ROWS = 6, COMPONENTS = 37, WIDTH_MAX = 131 };

static float x[ROWS * WIDTH_MAX], r[COMPONENTS * WIDTH_MAX], bias[COMPONENTS], logits[ROWS * COMPONENTS];
static float packed[(WIDTH_MAX + 1) * (COMPONENTS + 16)] __attribute__((aligned(64)));

static void multiply_all(uint32_t width)
{
    struct pack p = {.K = width, .columns = COMPONENTS, .n = width, .row_stride = 1, .column_stride = width};
    uint32_t in[ROWS], out[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        in[i] = i * width;
        out[i] = i * COMPONENTS;
    }
    struct gather g = {.runs = 1, .run = width, .stride = width, .columns = COMPONENTS, .in = in, .out = out};
    tile_pack(&p, r, packed);
    tile_pack_bias(width, COMPONENTS, bias, packed);
    gather_product(&g, ROWS, x, packed, logits);
}

static void check_width(uint32_t width)
{
    multiply_all(width);
    for (uint32_t first = 0; first < COMPONENTS; first++) {
        struct duos q;
        for (uint32_t j = 0; j < PAIRS; j++) {
            uint32_t k = (first + 5 * j) % COMPONENTS;
            q.x[j / DUO] = x + (first + j / DUO) % ROWS * width;
            q.r[j] = r + k * width;
            q.logit[j] = bias[k];
        }
        refine_duos(&q, width);
        for (uint32_t j = 0; j < PAIRS; j++) {
            uint32_t k = (first + 5 * j) % COMPONENTS, i = (first + j / DUO) % ROWS;
            if (tiles_are_fused())
                assert_memory_equal(&q.logit[j], &logits[i * COMPONENTS + k], sizeof(float));
        }
    }
}

static void test_pairs_are_what_tiles_make_of_them(void **state)
{
    (void)state;
    struct rng random;
    if (!kernels_possible(KERNELS_AVX512))
        skip();
    assert_int_equal(kernels_choose("avx512", NULL), 0);
    rng_open(&random, 5, RNG_MIXTURE, 0, 0, 0);
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        x[i] = (float)rng_normal(&random);
    for (size_t i = 0; i < sizeof r / sizeof *r; i++)
        r[i] = 30 * (float)rng_normal(&random);
    for (size_t i = 0; i < COMPONENTS; i++)
        bias[i] = 100 * (float)rng_normal(&random);
    for (uint32_t width = 1; width <= WIDTH_MAX; width++)
        check_width(width);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairs_are_what_tiles_make_of_them)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
