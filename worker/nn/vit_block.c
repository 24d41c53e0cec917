/* Forward and backward of a transformer block; see vit_block.h. */
#include "worker/nn/vit_block.h"

#include <stdio.h>
#include "worker/nn/activations.h"
#include "worker/nn/columns.h"
#include "worker/nn/layernorm.h"
#include "worker/nn/rows.h"

static const double INITIAL_DEVIATION = 0.02; /* of every matrix in a block, as usual for vision transformers */

int vit_shape_init(struct vit_shape *s, uint32_t tokens, uint32_t dim, uint32_t heads, uint32_t hidden)
{
    const uint32_t in[VIT_LAYERS] = {dim, dim, dim, hidden}, out[VIT_LAYERS] = {3 * dim, dim, hidden, dim};
    s->tokens = tokens;
    s->dim = dim;
    s->hidden = hidden;
    for (int i = 0; i < VIT_LAYERS; i++)
        if (linear_init(&s->linear[i], in[i], out[i]) != 0)
            return ERR_MEMORY;
    return attention_init(&s->attention, tokens, dim, heads);
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

/* The store's arrays from sample `first` on. */
static struct vit_block_store store_at(const struct vit_shape *s, const struct vit_block_store *w, size_t first)
{
    struct vit_block_store at = *w;
    size_t rows = first * s->tokens;
    at.x += rows * s->dim;
    at.qkv += rows * 3 * s->dim;
    at.probabilities += first * attention_probabilities_size(&s->attention);
    at.heads += rows * s->dim;
    at.mid += rows * s->dim;
    at.hidden += rows * s->hidden;
    return at;
}

static void norm(const struct vit_shape *s, const struct vit_block *b, int i, const real *params, const real *x,
                 size_t rows, real *y)
{
    layernorm_forward(x, rows, s->dim, params + b->gamma[i].offset, params + b->beta[i].offset, y);
}

void vit_block_forward(const struct vit_shape *s, const struct vit_block *b, const real *params, size_t first, size_t n,
                       const struct vit_block_store *w, const struct vit_scratch *t, real *y)
{
    struct vit_block_store at = store_at(s, w, first);
    size_t T = s->tokens, rows = n * T, all = rows * s->dim;
    norm(s, b, 0, params, at.x, rows, t->norm);
    linear_forward(&s->linear[VIT_QKV], rows, t->norm, w->packed_forward[VIT_QKV], at.qkv);
    for (size_t i = 0; i < n; i++)
        attention_forward(&s->attention, at.qkv + i * T * 3 * s->dim,
                          at.probabilities + i * attention_probabilities_size(&s->attention), at.heads + i * T * s->dim,
                          &t->attention);
    linear_forward(&s->linear[VIT_OUT], rows, at.heads, w->packed_forward[VIT_OUT], at.mid);
    row_add(at.mid, at.x, all);
    norm(s, b, 1, params, at.mid, rows, t->norm);
    linear_forward(&s->linear[VIT_MLP1], rows, t->norm, w->packed_forward[VIT_MLP1], at.hidden);
    gelu_forward(at.hidden, rows * s->hidden, t->hidden);
    linear_forward(&s->linear[VIT_MLP2], rows, t->hidden, w->packed_forward[VIT_MLP2], y);
    row_add(y, at.mid, all);
}

/* Gradients of layer i's parameters from its input x and d_y, and d_x. */
static void layer_backward(const struct vit_shape *s, const struct vit_block *b, int i, size_t rows, const real *x,
                           const real *d_y, const struct vit_block_store *w, const struct vit_scratch *t, real *d_x,
                           real *grad)
{
    const struct linear *l = &s->linear[i];
    columns_sum(d_y, rows, l->out, t->column);
    row_add(grad + b->bias[i].offset, t->column, l->out);
    linear_backward_weight(l, rows, x, d_y, w->gradient[i]);
    linear_backward_input(l, rows, d_y, w->packed_backward[i], d_x);
}

/* d += gradient through norm i, whose input is x and whose output's gradient is in t->d_norm. */
static void norm_backward(const struct vit_shape *s, const struct vit_block *b, int i, const real *params,
                          const real *x, size_t rows, const struct vit_scratch *t, real *d, real *grad)
{
    layernorm_backward(x, rows, s->dim, params + b->gamma[i].offset, t->d_norm, d, grad + b->gamma[i].offset,
                       grad + b->beta[i].offset, t->layernorm);
}

void vit_block_backward(const struct vit_shape *s, const struct vit_block *b, const real *params, size_t first,
                        size_t n, const struct vit_block_store *w, const struct vit_scratch *t, real *d, real *grad)
{
    struct vit_block_store at = store_at(s, w, first);
    size_t T = s->tokens, rows = n * T;
    gelu_forward(at.hidden, rows * s->hidden, t->hidden);
    layer_backward(s, b, VIT_MLP2, rows, t->hidden, d, w, t, t->wide, grad);
    gelu_backward(at.hidden, rows * s->hidden, t->wide);
    norm(s, b, 1, params, at.mid, rows, t->norm);
    layer_backward(s, b, VIT_MLP1, rows, t->norm, t->wide, w, t, t->d_norm, grad);
    norm_backward(s, b, 1, params, at.mid, rows, t, d, grad);
    layer_backward(s, b, VIT_OUT, rows, at.heads, d, w, t, t->d_norm, grad);
    for (size_t i = 0; i < n; i++)
        attention_backward(&s->attention, at.qkv + i * T * 3 * s->dim,
                           at.probabilities + i * attention_probabilities_size(&s->attention),
                           t->d_norm + i * T * s->dim, t->wide + i * T * 3 * s->dim, &t->attention);
    norm(s, b, 0, params, at.x, rows, t->norm);
    layer_backward(s, b, VIT_QKV, rows, t->norm, t->wide, w, t, t->d_norm, grad);
    norm_backward(s, b, 0, params, at.x, rows, t, d, grad);
}
