/* A linear layer whose weights are a choice of prototypes; see logits.h. */
#include "worker/loss/logits.h"
#include <string.h>

int logits_init(struct logits *l, uint32_t D, uint32_t width)
{
    return linear_init(&l->product, D, width, PRECISION_FLOAT32);
}

void logits_fini(struct logits *l)
{
    linear_fini(&l->product);
}

void logits_carve(struct logits *l, struct arena *a)
{
    size_t forward = linear_packed_forward_size(&l->product), backward = linear_packed_backward_size(&l->product);
    l->chosen = arena_reals(a, (size_t)l->product.in * l->product.out);
    l->packed = arena_reals(a, forward > backward ? forward : backward);
    l->gradient = arena_reals(a, linear_gradient_size(&l->product));
}

void logits_begin(struct logits *l)
{
    l->held = NULL;
}

/* What a forward product has chosen the backward one finds again. */
static const real *choose(struct logits *l, const real *prototypes, const uint32_t *order, size_t first)
{
    size_t D = l->product.in;
    if (!order)
        return prototypes + first * D;
    if (l->held == prototypes && l->held_first == first)
        return l->chosen;
    for (size_t i = 0; i < l->product.out; i++)
        memcpy(l->chosen + i * D, prototypes + order[first + i] * D, D * sizeof(real));
    l->held = prototypes;
    l->held_first = first;
    return l->chosen;
}

void logits_select(struct logits *l, const real *prototypes, const uint32_t *order, size_t first)
{
    linear_pack_forward(&l->product, choose(l, prototypes, order, first), NULL, l->packed);
}

void logits_forward(const struct logits *l, size_t R, const real *z, real *out)
{
    linear_forward(&l->product, R, z, l->packed, out);
}

void logits_backward(struct logits *l, size_t R, const real *d, const real *prototypes, const uint32_t *order,
                     size_t first, real *dz)
{
    linear_pack_backward(&l->product, choose(l, prototypes, order, first), l->packed);
    linear_backward_input(&l->product, R, d, l->packed, dz);
}

void logits_backward_prototypes(struct logits *l, size_t R, const real *z, const real *d, const uint32_t *order,
                                size_t first, real *d_prototypes)
{
    size_t D = l->product.in;
    memset(l->gradient, 0, linear_gradient_size(&l->product) * sizeof(real));
    linear_backward_weight(&l->product, R, z, d, l->gradient);
    linear_unpack_gradient(&l->product, l->gradient, l->chosen);
    l->held = NULL; /* a gradient stands there now */
    for (size_t i = 0; i < l->product.out; i++) {
        size_t k = order ? order[first + i] : first + i;
        memcpy(d_prototypes + k * D, l->chosen + i * D, D * sizeof(real));
    }
}
