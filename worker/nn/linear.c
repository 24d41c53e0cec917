/* Blocks of rows over the tile products; see linear.h. */
#include "worker/nn/linear.h"

#include "common/error.h"

/* A block of rows of the wider side takes half of a small core's second-level cache; a multiple of both tile heights.
 */
enum { BLOCK_REALS = 65536, BLOCK_MULTIPLE = 12, BLOCK_MAX = 240 };

static uint32_t block_rows(uint32_t in, uint32_t out)
{
    uint32_t rows = BLOCK_REALS / (in > out ? in : out) / BLOCK_MULTIPLE * BLOCK_MULTIPLE;
    return rows < BLOCK_MULTIPLE ? BLOCK_MULTIPLE : rows > BLOCK_MAX ? BLOCK_MAX : rows;
}

static void carve_tables(struct linear *l)
{
    l->forward.in = l->input.out = l->weight.a = arena_strides(&l->tables, l->block, l->in);
    l->forward.out = l->input.in = l->weight.d = arena_strides(&l->tables, l->block, l->out);
    l->weight.left = arena_strides(&l->tables, l->weight.left_count, 1);
}

int linear_init(struct linear *l, uint32_t in, uint32_t out, enum encoder_precision precision)
{
    *l = (struct linear){.in = in, .out = out, .precision = precision, .block = block_rows(in, out)};
    l->forward = (struct gather){.runs = 1, .run = in, .columns = out, .precision = precision};
    l->input = (struct gather){.runs = 1, .run = out, .columns = in, .precision = precision};
    l->weight = (struct outer){.columns = out, .left_count = in, .precision = precision};
    carve_tables(l);
    if (arena_allocate(&l->tables) != 0)
        return ERR_MEMORY;
    carve_tables(l);
    return 0;
}

void linear_fini(struct linear *l)
{
    arena_free(&l->tables);
}

size_t linear_packed_forward_size(const struct linear *l)
{
    return tile_packed_size_in(l->precision, l->in, l->out);
}

size_t linear_packed_backward_size(const struct linear *l)
{
    return tile_packed_size_in(l->precision, l->out, l->in);
}

size_t linear_gradient_size(const struct linear *l)
{
    return tile_gradient_size_in(l->precision, l->in, l->out);
}

static struct pack forward_pack(const struct linear *l)
{
    return (struct pack){
        .K = l->in, .columns = l->out, .n = l->in, .row_stride = 1, .column_stride = l->in, .precision = l->precision};
}

void linear_pack_forward(const struct linear *l, const real *weight, const real *bias, real *packed)
{
    struct pack p = forward_pack(l);
    tile_pack(&p, weight, packed);
    tile_pack_bias_in(l->precision, l->in, l->out, bias, packed);
}

void linear_pack_backward(const struct linear *l, const real *weight, real *packed)
{
    struct pack p = {
        .K = l->out, .columns = l->in, .n = l->out, .row_stride = l->in, .column_stride = 1, .precision = l->precision};
    tile_pack(&p, weight, packed);
    tile_pack_bias_in(l->precision, l->out, l->in, NULL, packed);
}

void linear_unpack_gradient(const struct linear *l, const real *gradient, real *weight_gradient)
{
    struct pack p = forward_pack(l);
    tile_unpack_gradient(&p, gradient, weight_gradient);
}

static size_t block_at(const struct linear *l, size_t r, size_t R)
{
    return R - r < l->block ? R - r : l->block;
}

void linear_forward_ahead(const struct linear *l, size_t R, const real *x, const real *packed, real *y,
                          struct ahead *ahead)
{
    for (size_t r = 0; r < R; r += l->block)
        gather_product_ahead(&l->forward, block_at(l, r, R), x + r * l->in, packed, y + r * l->out, ahead);
}

void linear_forward(const struct linear *l, size_t R, const real *x, const real *packed, real *y)
{
    linear_forward_ahead(l, R, x, packed, y, NULL);
}

void linear_backward_input_ahead(const struct linear *l, size_t R, const real *d_y, const real *packed, real *d_x,
                                 struct ahead *ahead)
{
    for (size_t r = 0; r < R; r += l->block)
        gather_product_ahead(&l->input, block_at(l, r, R), d_y + r * l->out, packed, d_x + r * l->in, ahead);
}

void linear_backward_input(const struct linear *l, size_t R, const real *d_y, const real *packed, real *d_x)
{
    linear_backward_input_ahead(l, R, d_y, packed, d_x, NULL);
}

void linear_backward_weight_ahead(const struct linear *l, size_t R, const real *x, const real *d_y, real *gradient,
                                  struct ahead *ahead)
{
    for (size_t r = 0; r < R; r += l->block)
        gather_outer_ahead(&l->weight, block_at(l, r, R), x + r * l->in, d_y + r * l->out, gradient, ahead);
}

void linear_backward_weight(const struct linear *l, size_t R, const real *x, const real *d_y, real *gradient)
{
    linear_backward_weight_ahead(l, R, x, d_y, gradient, NULL);
}
