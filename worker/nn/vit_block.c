/* Forward and backward of a transformer block; see vit_block.h. */
#include "worker/nn/vit_block.h"

#include <stdio.h>
#include <string.h>
#include "worker/nn/activations.h"
#include "worker/nn/columns.h"
#include "worker/nn/layernorm.h"
#include "worker/nn/rows.h"

static const double INITIAL_DEVIATION = 0.02; /* of every matrix in a block, as usual for vision transformers */

int vit_shape_init(struct vit_shape *s, uint32_t tokens, uint32_t dim, uint32_t heads, uint32_t hidden,
                   enum encoder_precision precision)
{
    const uint32_t in[VIT_LAYERS] = {dim, dim, dim, hidden}, out[VIT_LAYERS] = {3 * dim, dim, hidden, dim};
    s->tokens = tokens;
    s->dim = dim;
    s->hidden = hidden;
    for (int i = 0; i < VIT_LAYERS; i++)
        if (linear_init(&s->linear[i], in[i], out[i], precision) != 0)
            return ERR_MEMORY;
    return attention_init(&s->attention, tokens, dim, heads, precision);
}

void vit_shape_fini(struct vit_shape *s)
{
    for (int i = 0; i < VIT_LAYERS; i++)
        linear_fini(&s->linear[i]);
    attention_fini(&s->attention);
}

int vit_block_describe(const struct vit_shape *s, struct vit_block *b, uint32_t index, struct manifest *m)
{
    static const char *const names[VIT_LAYERS] = {"qkv", "out", "mlp1", "mlp2"};
    char prefix[32];
    int rc = 0;
    for (int i = 0; rc == 0 && i < VIT_NORMS; i++) {
        snprintf(prefix, sizeof prefix, "block%u.norm%d", index + 1, i + 1);
        rc = parameter_vector(m, prefix, "weight", s->dim, &b->gamma[i]);
        rc = rc ? rc : parameter_vector(m, prefix, "bias", s->dim, &b->beta[i]);
    }
    for (int i = 0; rc == 0 && i < VIT_LAYERS; i++) {
        snprintf(prefix, sizeof prefix, "block%u.%s", index + 1, names[i]);
        rc = parameter_matrix(m, prefix, "weight", s->linear[i].out, s->linear[i].in, &b->weight[i]);
        rc = rc ? rc : parameter_vector(m, prefix, "bias", s->linear[i].out, &b->bias[i]);
    }
    return rc;
}

void vit_block_initialise(const struct vit_block *b, uint64_t seed, real *params)
{
    for (int i = 0; i < VIT_NORMS; i++) {
        parameter_fill(&b->gamma[i], 1, params);
        parameter_fill(&b->beta[i], 0, params);
    }
    for (int i = 0; i < VIT_LAYERS; i++) {
        parameter_normal(&b->weight[i], seed, INITIAL_DEVIATION, params);
        parameter_fill(&b->bias[i], 0, params);
    }
}

void vit_block_carve(const struct vit_shape *s, size_t places, struct vit_block_store *w, struct arena *a)
{
    size_t rows = places * s->tokens;
    w->x = arena_reals(a, rows * s->dim);
    w->qkv = arena_reals(a, rows * 3 * s->dim);
    w->probabilities = arena_reals(a, places * attention_probabilities_size(&s->attention));
    w->heads = arena_reals(a, rows * s->dim);
    w->mid = arena_reals(a, rows * s->dim);
    w->hidden = arena_reals(a, rows * s->hidden);
    for (int i = 0; i < VIT_LAYERS; i++) {
        w->packed_forward[i] = arena_reals(a, linear_packed_forward_size(&s->linear[i]));
        w->packed_backward[i] = arena_reals(a, linear_packed_backward_size(&s->linear[i]));
        w->gradient[i] = arena_reals(a, linear_gradient_size(&s->linear[i]));
    }
}

void vit_scratch_carve(const struct vit_shape *s, size_t chunk, struct vit_scratch *w, struct arena *a)
{
    size_t rows = chunk * s->tokens, widest = 3 * s->dim > s->hidden ? 3 * s->dim : s->hidden;
    w->norm = arena_reals(a, rows * s->dim);
    w->wide = arena_reals(a, rows * widest);
    w->hidden = arena_reals(a, rows * s->hidden);
    w->d_norm = arena_reals(a, rows * s->dim);
    w->column = arena_reals(a, widest);
    w->layernorm = arena_reals(a, LAYERNORM_SCRATCH * (size_t)s->dim);
    attention_carve(&s->attention, &w->attention, a);
}

void vit_block_begin_forward(const struct vit_shape *s, const struct vit_block *b, const real *params,
                             struct vit_block_store *w)
{
    for (int i = 0; i < VIT_LAYERS; i++)
        linear_pack_forward(&s->linear[i], params + b->weight[i].offset, params + b->bias[i].offset,
                            w->packed_forward[i]);
}

void vit_block_begin_backward(const struct vit_shape *s, const struct vit_block *b, const real *params,
                              struct vit_block_store *w, real *grad)
{
    for (int i = 0; i < VIT_LAYERS; i++) {
        linear_pack_backward(&s->linear[i], params + b->weight[i].offset, w->packed_backward[i]);
        memset(w->gradient[i], 0, linear_gradient_size(&s->linear[i]) * sizeof(real));
        parameter_fill(&b->bias[i], 0, grad);
    }
    for (int i = 0; i < VIT_NORMS; i++) {
        parameter_fill(&b->gamma[i], 0, grad);
        parameter_fill(&b->beta[i], 0, grad);
    }
}

void vit_block_end_backward(const struct vit_shape *s, const struct vit_block *b, const struct vit_block_store *w,
                            real *grad)
{
    for (int i = 0; i < VIT_LAYERS; i++)
        linear_unpack_gradient(&s->linear[i], w->gradient[i], grad + b->weight[i].offset);
}

/* The store's arrays from the pass's first sample on. */
static struct vit_block_store store_of(const struct vit_pass *p)
{
    struct vit_block_store at = *p->store;
    size_t dim = p->shape->dim, rows = p->first * p->shape->tokens;
    at.x += rows * dim;
    at.qkv += rows * 3 * dim;
    at.probabilities += p->first * attention_probabilities_size(&p->shape->attention);
    at.heads += rows * dim;
    at.mid += rows * dim;
    at.hidden += rows * p->shape->hidden;
    return at;
}

static void norm(const struct vit_pass *p, int i, const real *x, size_t rows)
{
    layernorm_forward(x, rows, p->shape->dim, p->params + p->block->gamma[i].offset,
                      p->params + p->block->beta[i].offset, p->scratch->norm);
}

static void layer(const struct vit_pass *p, enum vit_layer i, const real *x, size_t rows, real *y)
{
    linear_forward(&p->shape->linear[i], rows, x, p->store->packed_forward[i], y);
}

/* mid = x + out(attention(norm1 x)), for the kept tokens */
static void attention_half(const struct vit_pass *p, const struct vit_block_store *at)
{
    size_t T = p->shape->tokens, dim = p->shape->dim;
    norm(p, 0, at->x, p->n * T);
    layer(p, VIT_QKV, p->scratch->norm, p->n * T, at->qkv);
    for (size_t i = 0; i < p->n; i++)
        attention_forward(&p->shape->attention, p->kept, at->qkv + i * T * 3 * dim,
                          at->probabilities + i * attention_probabilities_size(&p->shape->attention),
                          at->heads + i * p->kept * dim, &p->scratch->attention);
    layer(p, VIT_OUT, at->heads, p->n * p->kept, at->mid);
    for (size_t i = 0; i < p->n; i++)
        row_add(at->mid + i * p->kept * dim, at->x + i * T * dim, p->kept * dim);
}

void vit_block_forward(const struct vit_pass *p, real *y)
{
    struct vit_block_store at = store_of(p);
    size_t rows = p->n * p->kept;
    attention_half(p, &at);
    norm(p, 1, at.mid, rows);
    layer(p, VIT_MLP1, p->scratch->norm, rows, at.hidden);
    gelu_forward(at.hidden, rows * p->shape->hidden, p->scratch->hidden);
    layer(p, VIT_MLP2, p->scratch->hidden, rows, y);
    row_add(y, at.mid, rows * p->shape->dim);
}

/* Gradients of layer i's parameters from its input x and d_y, and d_x. */
static void layer_backward(const struct vit_pass *p, enum vit_layer i, const real *x, const real *d_y, size_t rows,
                           real *d_x, real *grad)
{
    const struct linear *l = &p->shape->linear[i];
    columns_sum(d_y, rows, l->out, p->scratch->column);
    row_add(grad + p->block->bias[i].offset, p->scratch->column, l->out);
    linear_backward_weight(l, rows, x, d_y, p->store->gradient[i]);
    linear_backward_input(l, rows, d_y, p->store->packed_backward[i], d_x);
}

/* d += the gradient through norm i, whose input is x and whose output's gradient is in scratch->d_norm. */
static void norm_backward(const struct vit_pass *p, int i, const real *x, size_t rows, real *d, real *grad)
{
    layernorm_backward(x, rows, p->shape->dim, p->params + p->block->gamma[i].offset, p->scratch->d_norm, d,
                       grad + p->block->gamma[i].offset, grad + p->block->beta[i].offset, p->scratch->layernorm);
}

/* d (n,kept,dim): wrt y, replaced by that wrt mid. */
static void mlp_backward(const struct vit_pass *p, const struct vit_block_store *at, real *d, real *grad)
{
    const struct vit_scratch *t = p->scratch;
    size_t rows = p->n * p->kept;
    gelu_forward(at->hidden, rows * p->shape->hidden, t->hidden);
    layer_backward(p, VIT_MLP2, t->hidden, d, rows, t->wide, grad);
    gelu_backward(at->hidden, rows * p->shape->hidden, t->wide);
    norm(p, 1, at->mid, rows);
    layer_backward(p, VIT_MLP1, t->norm, t->wide, rows, t->d_norm, grad);
    norm_backward(p, 1, at->mid, rows, d, grad);
}

/* (n,kept,dim) to (n,T,dim) in place, from the last sample on: tokens that were not kept have no gradient of their own.
 */
static void spread_tokens(const struct vit_pass *p, real *d)
{
    size_t size = p->shape->tokens * p->shape->dim, kept = p->kept * p->shape->dim;
    for (size_t i = p->n; i-- > 0 && kept < size;) {
        memmove(d + i * size, d + i * kept, kept * sizeof(real));
        memset(d + i * size + kept, 0, (size - kept) * sizeof(real));
    }
}

void vit_block_backward(const struct vit_pass *p, real *d, real *grad)
{
    struct vit_block_store at = store_of(p);
    const struct vit_scratch *t = p->scratch;
    size_t T = p->shape->tokens, dim = p->shape->dim, rows = p->n * T;
    mlp_backward(p, &at, d, grad);
    layer_backward(p, VIT_OUT, at.heads, d, p->n * p->kept, t->d_norm, grad);
    for (size_t i = 0; i < p->n; i++)
        attention_backward(&p->shape->attention, p->kept, at.qkv + i * T * 3 * dim,
                           at.probabilities + i * attention_probabilities_size(&p->shape->attention),
                           t->d_norm + i * p->kept * dim, t->wide + i * T * 3 * dim, &t->attention);
    spread_tokens(p, d);
    norm(p, 0, at.x, rows);
    layer_backward(p, VIT_QKV, t->norm, t->wide, rows, t->d_norm, grad);
    norm_backward(p, 0, at.x, rows, d, grad);
}
