/* Matrix products whose rows are gathered: the one pair of hot kernels under convolutions, linear layers, attention
 * and the logits of the losses.
 *
 *   gather_product  C[out[r] + j] = bias[j] + sum_k A(r,k) B(k,j)
 *                   where row r of A is `runs` runs of `run` reals, the first at A + in[r], each next one `stride` on
 *   gather_outer    G(k,j) += sum_p A[a[p] + left[k]] * D[d[p] + j]
 *                   the matching gradient with respect to B
 *
 * Because rows are addresses, a 3x3 convolution over a zero-padded NHWC image is a gather_product with three runs
 * per output pixel: no im2col. B is packed once per step in panels of a few vectors of columns, so that a tile of
 * sums stays in registers while k runs; the last panel has as many vectors as it needs:
 *
 *      panel 0                  panel 1
 *      bias   | width reals |        row 0: the bias, or zeros
 *      k = 0  | width reals |        columns beyond N are zeros
 *      ...
 *      k = K-1
 *
 * Packed gradients G have the same panels without the bias row.
 *
 * Vectors and tiles depend on the choice of kernels (common/kernels.h): 6x2 and 4x3 vectors of 4 or 8 floats, with
 * AVX-512 6x4, 8x3, 8x2 and 8x1 vectors of 16. Every sum runs over k, or over the points, in order and alone, so a
 * shape changes no byte: avx2 and avx512 agree to the bit, portable differs by the rounding of each product.
 *
 * With precision = PRECISION_BF16 operands are rounded, panels look otherwise and other kernels run: bf16.h. */
#ifndef DECANT_WORKER_NN_TILES_H
#define DECANT_WORKER_NN_TILES_H

#include <stdbool.h>
#include "proto/choices.h"
#include "worker/nn/real.h"

struct gather {
    uint32_t runs;      /* per row of A */
    size_t run, stride; /* reals in a run; from one run's start to the next */
    uint32_t columns;   /* N */
    uint32_t *in, *out; /* offset of each row in A and in C; (rows) */
    enum encoder_precision precision;
};

struct outer {
    uint32_t columns;    /* N */
    uint32_t left_count; /* K */
    uint32_t *left;      /* offset of each k from a point's start in A, ascending; (left_count) */
    uint32_t *a, *d;     /* offset of each point in A and in D */
    enum encoder_precision precision;
};

size_t tile_packed_size(size_t K, size_t columns);   /* reals of B, packed; float32, like the next two */
size_t tile_gradient_size(size_t K, size_t columns); /* reals of G, packed */

/* Packs rows k0..k0+n of B out of K in all: B(k0 + i, j) = source[i * row_stride + j * column_stride]. */
struct pack {
    uint32_t K;
    size_t columns, k0, n, row_stride, column_stride;
    enum encoder_precision precision;
};
void tile_pack(const struct pack *p, const real *source, real *packed);
/* Bias row (columns), or NULL for zeros. */
void tile_pack_bias(size_t K, size_t columns, const real *bias, real *packed);
/* Column j of B alone, source (K), into what has been packed already. */
void tile_pack_column(size_t K, size_t columns, size_t j, const real *source, real *packed);
/* The same in either precision. */
size_t tile_packed_size_in(enum encoder_precision precision, size_t K, size_t columns);
size_t tile_gradient_size_in(enum encoder_precision precision, size_t K, size_t columns);
void tile_pack_bias_in(enum encoder_precision precision, size_t K, size_t columns, const real *bias, real *packed);
void tile_pack_column_in(enum encoder_precision precision, size_t K, size_t columns, size_t j, const real *source,
                         real *packed);
/* target[k * row_stride + j * column_stride] = G(k,j); p->k0 = 0, p->n = p->K. */
void tile_unpack_gradient(const struct pack *p, const real *gradient, real *target);

void gather_product(const struct gather *g, size_t rows, const real *a, const real *packed, real *c);
void gather_outer(const struct outer *o, size_t points, const real *a, const real *d, real *gradient);

/* Memory that is wanted soon: a product that gets it fetches it bit by bit, from at on, so that it is in the
 * second-level cache when its turn comes. NULL: nothing. In bf16 it is left alone. */
struct ahead {
    const real *at, *end;
};
void gather_product_ahead(const struct gather *g, size_t rows, const real *a, const real *packed, real *c,
                          struct ahead *ahead);
void gather_outer_ahead(const struct outer *o, size_t points, const real *a, const real *d, real *gradient,
                        struct ahead *ahead);

/* Without packing, for operands that are used once: B, D and G stand in rows, and C has no bias. Only where
 * tile_in_place says so: float32, and columns in whole vectors. The same sums to the bit. */
bool tile_in_place(enum encoder_precision precision, size_t columns);
/* C as above, B(k,j) = b[k * stride + j]; one run. */
void gather_product_in_place(const struct gather *g, size_t rows, const real *a, const real *b, size_t stride, real *c);
/* gradient[k * stride + j] = G(k,j), overwritten; the offsets `left` follow each other. */
void gather_outer_in_place(const struct outer *o, size_t points, const real *a, const real *d, real *gradient,
                           size_t stride);

#endif
