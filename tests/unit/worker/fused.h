/* Whether the tiles of this build round a product and its addition once, as they are made to. With sanitizers they do
 * not: what is checked between two instructions keeps the compiler from joining them, and bits differ from
 * refine.h's. */
#ifndef DECANT_TESTS_UNIT_WORKER_FUSED_H
#define DECANT_TESTS_UNIT_WORKER_FUSED_H

#include <stdbool.h>
#include <stdint.h>
#include "worker/nn/tiles.h"

/* (1 + 2^-12)^2 - (1 + 2^-11) is 2^-24, or 0 when the square is rounded first. */
static inline bool tiles_are_fused(void)
{
    static float packed[64] __attribute__((aligned(64)));
    const float x = 1 + 0x1p-12f, bias = -(1 + 0x1p-11f);
    const struct pack p = {.K = 1, .columns = 1, .n = 1, .row_stride = 1, .column_stride = 1};
    float sum = 0;
    uint32_t at = 0;
    const struct gather g = {.runs = 1, .run = 1, .stride = 1, .columns = 1, .in = &at, .out = &at};
    tile_pack(&p, &x, packed);
    tile_pack_bias(1, 1, &bias, packed);
    gather_product(&g, 1, &x, packed, &sum);
    return sum != 0;
}

#endif
