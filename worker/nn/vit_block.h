/* One pre-norm transformer block on tokens x (samples * T, dim):
 *   mid = x + out(attention(norm1 x)),   y = mid + mlp2(gelu(mlp1(norm2 mid)))
 * A pass that is kept for backward stores x, qkv, probabilities, the heads' output, mid and the MLP's hidden values;
 * backward recomputes the rest, which is cheap. Positions in the stores are samples. */
#ifndef DECANT_WORKER_NN_VIT_BLOCK_H
#define DECANT_WORKER_NN_VIT_BLOCK_H

#include <stdbool.h>
#include "worker/nn/attention.h"
#include "worker/nn/cls_attention.h"
#include "worker/nn/linear.h"
#include "worker/nn/parameters.h"

enum vit_layer { VIT_QKV, VIT_OUT, VIT_MLP1, VIT_MLP2, VIT_LAYERS };
enum { VIT_NORMS = 2 };

/* The shapes that all blocks share. */
struct vit_shape {
    uint32_t tokens, dim, hidden; /* T; width; of the MLP */
    struct attention attention;
    struct linear linear[VIT_LAYERS];
};

struct vit_block {
    /* Of a last block that only the CLS token leaves, which spares it most of its work; else NULL. Set by the owner,
     * before anything else. */
    const struct cls_attention *cls;
    struct parameter weight[VIT_LAYERS], bias[VIT_LAYERS], gamma[VIT_NORMS], beta[VIT_NORMS];
};

/* What a block keeps: x, the output of the block before, (places,T,dim); qkv and probabilities likewise, or what
 * cls_attention keeps; (places,kept,...) of the rest, where kept is 1 with cls and T without. */
struct vit_block_store {
    real *x, *qkv, *probabilities, *heads, *mid, *hidden; /* the owner says, pass by pass, where in x */
    struct cls_store cls;
    real *packed_forward[VIT_LAYERS], *packed_backward[VIT_LAYERS], *gradient[VIT_LAYERS];
};

/* Temporaries of one chunk of samples, shared by all blocks. */
struct vit_scratch {
    real *norm;   /* (n,T,dim) */
    real *wide;   /* (n,T,max(3 dim, hidden)) */
    real *hidden; /* (n,T,hidden) */
    real *d_norm; /* (n,T,dim) */
    real *column; /* (max width): bias gradients of a chunk */
    struct attention_scratch attention;
    struct cls_scratch cls;
};

/* heads of attention, and `hidden`, of the MLP; 0 or ERR_MEMORY */
int vit_shape_init(struct vit_shape *s, uint32_t tokens, uint32_t dim, uint32_t heads, uint32_t hidden,
                   enum encoder_precision precision);
void vit_shape_fini(struct vit_shape *s);
int vit_block_describe(const struct vit_shape *s, struct vit_block *b, uint32_t index, struct manifest *m);
void vit_block_initialise(const struct vit_block *b, uint64_t seed, real *params);
void vit_block_carve(const struct vit_shape *s, const struct vit_block *b, size_t places, struct vit_block_store *w,
                     struct arena *a);
/* cls: the last block's, or NULL */
void vit_scratch_carve(const struct vit_shape *s, const struct cls_attention *cls, size_t chunk, struct vit_scratch *w,
                       struct arena *a);

/* Once per pass. */
void vit_block_begin_forward(const struct vit_shape *s, const struct vit_block *b, const real *params,
                             struct vit_block_store *w);
void vit_block_begin_backward(const struct vit_shape *s, const struct vit_block *b, const real *params,
                              struct vit_block_store *w, real *grad);
void vit_block_end_backward(const struct vit_shape *s, const struct vit_block *b, const struct vit_block_store *w,
                            real *grad);

/* n samples x (n,T,dim); from place `first` of the store on goes what is kept of them. */
struct vit_pass {
    const struct vit_shape *shape;
    const struct vit_block *block;
    const struct vit_block_store *store;
    const struct vit_scratch *scratch;
    const real *params, *x;
    size_t first, n;
    size_t after; /* samples of the next pass, whose x and places follow these */
    bool keeps;   /* whether there will be a backward pass; else all passes may use the same places */
};

/* y (n,kept,dim) */
void vit_block_forward(const struct vit_pass *p, real *y);
/* d: in, (n,kept,dim), the gradient wrt y; out, (n,T,dim), that wrt x. Parameter gradients are added to. */
void vit_block_backward(const struct vit_pass *p, real *d, real *grad);

#endif
