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

/* The first of a block's linear layers that it calls itself. */
static int first_layer(const struct vit_block *b)
{
    return b->cls ? VIT_OUT : VIT_QKV;
}

static size_t kept_tokens(const struct vit_shape *s, const struct vit_block *b)
{
    return b->cls ? 1 : s->tokens;
}

void vit_block_carve(const struct vit_shape *s, const struct vit_block *b, size_t places, struct vit_block_store *w,
                     struct arena *a)
{
    size_t rows = places * s->tokens, kept = places * kept_tokens(s, b);
    w->x = arena_reals(a, rows * s->dim);
    if (b->cls) {
        cls_attention_carve(b->cls, places, &w->cls, a);
    } else {
        w->qkv = arena_reals(a, rows * 3 * s->dim);
        w->probabilities = arena_reals(a, places * attention_probabilities_size(&s->attention));
    }
    w->heads = arena_reals(a, kept * s->dim);
    w->mid = arena_reals(a, kept * s->dim);
    w->hidden = arena_reals(a, kept * s->hidden);
    for (int i = first_layer(b); i < VIT_LAYERS; i++) {
        w->packed_forward[i] = arena_reals(a, linear_packed_forward_size(&s->linear[i]));
        w->packed_backward[i] = arena_reals(a, linear_packed_backward_size(&s->linear[i]));
        w->gradient[i] = arena_reals(a, linear_gradient_size(&s->linear[i]));
    }
}

void vit_scratch_carve(const struct vit_shape *s, const struct cls_attention *cls, size_t chunk, struct vit_scratch *w,
                       struct arena *a)
{
    size_t rows = chunk * s->tokens, widest = 3 * s->dim > s->hidden ? 3 * s->dim : s->hidden;
    w->norm = arena_reals(a, rows * s->dim);
    w->wide = arena_reals(a, rows * widest);
    w->hidden = arena_reals(a, rows * s->hidden);
    w->d_norm = arena_reals(a, rows * s->dim);
    w->column = arena_reals(a, widest);
    attention_carve(&s->attention, &w->attention, a);
    if (cls)
        cls_scratch_carve(cls, &w->cls, a);
}

void vit_block_begin_forward(const struct vit_shape *s, const struct vit_block *b, const real *params,
                             struct vit_block_store *w)
{
    if (b->cls)
        cls_attention_begin_forward(b->cls, params + b->weight[VIT_QKV].offset, params + b->bias[VIT_QKV].offset,
                                    &w->cls);
    for (int i = first_layer(b); i < VIT_LAYERS; i++)
        linear_pack_forward(&s->linear[i], params + b->weight[i].offset, params + b->bias[i].offset,
                            w->packed_forward[i]);
}

void vit_block_begin_backward(const struct vit_shape *s, const struct vit_block *b, const real *params,
                              struct vit_block_store *w, real *grad)
{
    if (b->cls)
        cls_attention_begin_backward(b->cls, params + b->weight[VIT_QKV].offset, &w->cls);
    for (int i = first_layer(b); i < VIT_LAYERS; i++) {
        linear_pack_backward(&s->linear[i], params + b->weight[i].offset, w->packed_backward[i]);
        memset(w->gradient[i], 0, linear_gradient_size(&s->linear[i]) * sizeof(real));
    }
    for (int i = 0; i < VIT_LAYERS; i++)
        parameter_fill(&b->bias[i], 0, grad);
    for (int i = 0; i < VIT_NORMS; i++) {
        parameter_fill(&b->gamma[i], 0, grad);
        parameter_fill(&b->beta[i], 0, grad);
    }
}

void vit_block_end_backward(const struct vit_shape *s, const struct vit_block *b, const struct vit_block_store *w,
                            real *grad)
{
    if (b->cls)
        cls_attention_end_backward(b->cls, &w->cls, grad + b->weight[VIT_QKV].offset);
    for (int i = first_layer(b); i < VIT_LAYERS; i++)
        linear_unpack_gradient(&s->linear[i], w->gradient[i], grad + b->weight[i].offset);
}

static size_t kept(const struct vit_pass *p)
{
    return kept_tokens(p->shape, p->block);
}

/* The store's arrays from the pass's first sample on. */
static struct vit_block_store store_of(const struct vit_pass *p)
{
    struct vit_block_store at = *p->store;
    size_t dim = p->shape->dim, rows = p->first * p->shape->tokens, kept_rows = p->first * kept(p);
    if (p->block->cls) {
        at.cls = cls_store_at(p->block->cls, &at.cls, p->first);
    } else {
        at.qkv += rows * 3 * dim;
        at.probabilities += p->first * attention_probabilities_size(&p->shape->attention);
    }
    at.heads += kept_rows * dim;
    at.mid += kept_rows * dim;
    at.hidden += kept_rows * p->shape->hidden;
    return at;
}

/* grad, or NULL in a forward pass */
static struct layernorm norm_of(const struct vit_pass *p, int i, real *grad)
{
    const struct parameter *gamma = &p->block->gamma[i], *beta = &p->block->beta[i];
    return (struct layernorm){.n = p->shape->dim,
                              .gamma = p->params + gamma->offset,
                              .beta = p->params + beta->offset,
                              .d_gamma = grad ? grad + gamma->offset : NULL,
                              .d_beta = grad ? grad + beta->offset : NULL};
}

static void norm(const struct vit_pass *p, int i, const real *x, size_t rows)
{
    struct layernorm l = norm_of(p, i, NULL);
    layernorm_forward(&l, x, rows, p->scratch->norm);
}

/* What a step reads or writes that lies far away, to be fetched during a step before it. */
static struct ahead next(const real *x, size_t n)
{
    return (struct ahead){x, x + n};
}

/* d += the gradient through norm i, whose input is x and whose output's gradient is d_norm; scratch->norm = norm x. */
static void norm_backward(const struct vit_pass *p, int i, const real *x, size_t rows, const real *d_norm, real *d,
                          real *grad)
{
    struct layernorm l = norm_of(p, i, grad);
    layernorm_backward(&l, x, rows, d_norm, d, p->scratch->norm);
}

/* Reals that attention keeps of n samples; none with cls. */
static size_t qkv_size(const struct vit_pass *p, size_t n)
{
    return p->block->cls ? 0 : n * p->shape->tokens * 3 * p->shape->dim;
}

static size_t probabilities_size(const struct vit_pass *p, size_t n)
{
    return p->block->cls ? 0 : n * attention_probabilities_size(&p->shape->attention);
}

static void layer(const struct vit_pass *p, enum vit_layer i, const real *x, size_t rows, real *y, struct ahead ahead)
{
    linear_forward_ahead(&p->shape->linear[i], rows, x, p->store->packed_forward[i], y, &ahead);
}

/* heads = attention of scratch->norm */
static void attend(const struct vit_pass *p, const struct vit_block_store *at)
{
    size_t T = p->shape->tokens, dim = p->shape->dim;
    if (p->block->cls) {
        cls_attention_forward(p->block->cls, p->n, p->scratch->norm, &at->cls, &p->scratch->cls, at->heads);
        return;
    }
    layer(p, VIT_QKV, p->scratch->norm, p->n * T, at->qkv,
          next(at->probabilities, p->keeps ? probabilities_size(p, p->n) : 0));
    for (size_t i = 0; i < p->n; i++)
        attention_forward(&p->shape->attention, at->qkv + i * T * 3 * dim,
                          at->probabilities + i * attention_probabilities_size(&p->shape->attention),
                          at->heads + i * T * dim, &p->scratch->attention);
}

/* mid = x + out(attention(norm1 x)), for the kept tokens */
static void attention_half(const struct vit_pass *p, const struct vit_block_store *at)
{
    size_t T = p->shape->tokens, dim = p->shape->dim;
    norm(p, 0, p->x, p->n * T);
    attend(p, at);
    layer(p, VIT_OUT, at->heads, p->n * kept(p), at->mid,
          next(at->hidden, p->keeps ? p->n * kept(p) * p->shape->hidden : 0));
    for (size_t i = 0; i < p->n; i++)
        row_add(at->mid + i * kept(p) * dim, p->x + i * T * dim, kept(p) * dim);
}

/* What the next pass begins with: where its queries, keys and values go, or its tokens, if those of this pass went
 * where its own will. */
static struct ahead next_pass(const struct vit_pass *p, const struct vit_block_store *at)
{
    size_t sample = (size_t)p->shape->tokens * p->shape->dim;
    if (p->keeps)
        return next(at->qkv + qkv_size(p, p->n), qkv_size(p, p->after));
    return next(p->x + p->n * sample, p->after * sample);
}

void vit_block_forward(const struct vit_pass *p, real *y)
{
    struct vit_block_store at = store_of(p);
    size_t rows = p->n * kept(p);
    attention_half(p, &at);
    norm(p, 1, at.mid, rows);
    layer(p, VIT_MLP1, p->scratch->norm, rows, at.hidden, next(y, rows * p->shape->dim));
    gelu_forward(at.hidden, rows * p->shape->hidden, p->scratch->hidden);
    layer(p, VIT_MLP2, p->scratch->hidden, rows, y, next_pass(p, &at));
    row_add(y, at.mid, rows * p->shape->dim);
}

/* Gradients of layer i's parameters from its input x and d_y. */
static void layer_gradient(const struct vit_pass *p, enum vit_layer i, const real *x, const real *d_y, size_t rows,
                           real *grad, struct ahead ahead)
{
    const struct linear *l = &p->shape->linear[i];
    columns_sum(d_y, rows, l->out, p->scratch->column);
    row_add(grad + p->block->bias[i].offset, p->scratch->column, l->out);
    linear_backward_weight_ahead(l, rows, x, d_y, p->store->gradient[i], &ahead);
}

/* The gradient wrt its input. */
static void layer_back(const struct vit_pass *p, enum vit_layer i, const real *d_y, size_t rows, real *d_x,
                       struct ahead ahead)
{
    linear_backward_input_ahead(&p->shape->linear[i], rows, d_y, p->store->packed_backward[i], d_x, &ahead);
}

/* d (n,kept,dim): wrt y, replaced by that wrt mid. What forward did not keep comes out of the steps back, just in time
 * for the gradients of the layers that took it in. */
static void mlp_backward(const struct vit_pass *p, const struct vit_block_store *at, real *d, real *grad)
{
    const struct vit_scratch *t = p->scratch;
    size_t rows = p->n * kept(p), dim = p->shape->dim, hidden = p->shape->hidden;
    layer_back(p, VIT_MLP2, d, rows, t->wide, next(at->hidden, rows * hidden));
    gelu_backward(at->hidden, rows * hidden, t->wide, t->hidden);
    layer_gradient(p, VIT_MLP2, t->hidden, d, rows, grad, next(at->mid, rows * dim));
    layer_back(p, VIT_MLP1, t->wide, rows, t->d_norm, next(at->heads, rows * dim));
    norm_backward(p, 1, at->mid, rows, t->d_norm, d, grad);
    layer_gradient(p, VIT_MLP1, t->norm, t->wide, rows, grad, next(at->qkv, qkv_size(p, p->n)));
}

/* (n,kept,dim) to (n,T,dim) in place, from the last sample on: tokens that were not kept have no gradient of their own.
 */
static void spread_tokens(const struct vit_pass *p, real *d)
{
    size_t size = p->shape->tokens * p->shape->dim, part = kept(p) * p->shape->dim;
    for (size_t i = p->n; i-- > 0 && part < size;) {
        memmove(d + i * size, d + i * part, part * sizeof(real));
        memset(d + i * size + part, 0, (size - part) * sizeof(real));
    }
}

/* From the gradient wrt the heads, in scratch->d_norm, back to x's, added to d. */
static void attend_backward(const struct vit_pass *p, const struct vit_block_store *at, real *d, real *grad)
{
    const struct vit_scratch *t = p->scratch;
    size_t T = p->shape->tokens, dim = p->shape->dim, rows = p->n * T;
    if (p->block->cls) {
        norm(p, 0, p->x, rows);
        cls_attention_backward(p->block->cls, p->n, t->norm, t->d_norm, &at->cls, &t->cls, t->wide,
                               grad + p->block->bias[VIT_QKV].offset);
        norm_backward(p, 0, p->x, rows, t->wide, d, grad);
        return;
    }
    for (size_t i = 0; i < p->n; i++)
        attention_backward(&p->shape->attention, at->qkv + i * T * 3 * dim,
                           at->probabilities + i * attention_probabilities_size(&p->shape->attention),
                           t->d_norm + i * T * dim, t->wide + i * T * 3 * dim, &t->attention);
    layer_back(p, VIT_QKV, t->wide, rows, t->d_norm, next(p->x, rows * dim));
    norm_backward(p, 0, p->x, rows, t->d_norm, d, grad);
    layer_gradient(p, VIT_QKV, t->norm, t->wide, rows, grad, next(d + rows * dim, p->after * T * dim));
}

void vit_block_backward(const struct vit_pass *p, real *d, real *grad)
{
    struct vit_block_store at = store_of(p);
    size_t rows = p->n * kept(p);
    mlp_backward(p, &at, d, grad);
    struct ahead attention = next(at.probabilities, probabilities_size(p, p->n));
    layer_gradient(p, VIT_OUT, at.heads, d, rows, grad, attention);
    layer_back(p, VIT_OUT, d, rows, p->scratch->d_norm, attention);
    spread_tokens(p, d);
    attend_backward(p, &at, d, grad);
}
