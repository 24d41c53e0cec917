/* Forward and backward of a basic block; see residual.h. */
#include "worker/nn/residual.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/at_most.h"
#include "worker/nn/rows.h"

int residual_init(struct residual *b, struct conv_shape shape, struct norm_kind kind, enum encoder_precision precision)
{
    int rc = conv_norm_init(&b->unit[0], shape, kind, precision);
    const struct conv *first = &b->unit[0].conv;
    struct conv_shape second = {first->out_height, first->out_width, shape.out, shape.out, 1};
    rc = rc ? rc : conv_norm_init(&b->unit[1], second, kind, precision);
    b->projects = shape.stride != 1 || shape.in != shape.out;
    b->norm = b->unit[1].norm;
    return rc == 0 && b->projects ? linear_init(&b->linear, shape.in, shape.out, precision) : rc;
}

void residual_fini(struct residual *b)
{
    conv_norm_fini(&b->unit[0]);
    conv_norm_fini(&b->unit[1]);
    linear_fini(&b->linear);
}

int residual_describe(struct residual *b, const char *prefix, struct manifest *m)
{
    char name[64];
    int rc = conv_norm_describe(&b->unit[0], prefix, 1, m);
    rc = rc ? rc : conv_norm_describe(&b->unit[1], prefix, 2, m);
    if (rc != 0 || !b->projects)
        return rc;
    snprintf(name, sizeof name, "%.32s.shortcut", prefix);
    rc = parameter_matrix(m, name, "weight", b->linear.out, b->linear.in, &b->weight);
    snprintf(name, sizeof name, "%.32s.norm3", prefix);
    return rc ? rc : norm_describe(&b->norm, name, m);
}

void residual_initialise(const struct residual *b, uint64_t seed, real *params, real *buffers)
{
    conv_norm_initialise(&b->unit[0], seed, params, buffers);
    conv_norm_initialise(&b->unit[1], seed, params, buffers);
    if (!b->projects)
        return;
    parameter_uniform(&b->weight, seed, 1 / sqrt((double)b->linear.in), params);
    norm_initialise(&b->norm, params, buffers);
}

void residual_carve(const struct residual *b, size_t places, struct residual_store *w, struct arena *a)
{
    conv_norm_carve(&b->unit[0], places, &w->unit[0], a);
    conv_norm_carve(&b->unit[1], places, &w->unit[1], a);
    if (!b->projects)
        return;
    w->projected = arena_reals(a, places * residual_output_size(b));
    w->packed_forward = arena_reals(a, linear_packed_forward_size(&b->linear));
    w->packed_backward = arena_reals(a, linear_packed_backward_size(&b->linear));
    w->gradient = arena_reals(a, linear_gradient_size(&b->linear));
    norm_carve(&b->norm, places, &w->norm, a);
}

size_t residual_input_size(const struct residual *b)
{
    const struct conv_shape *s = &b->unit[0].conv.shape;
    return (size_t)s->height * s->width * s->in;
}

size_t residual_output_size(const struct residual *b)
{
    return conv_output_size(&b->unit[1].conv);
}

void residual_begin_forward(const struct residual *b, const struct residual_store *w, const struct resnet_pass *p)
{
    conv_norm_begin_forward(&b->unit[0], &w->unit[0], p);
    conv_norm_begin_forward(&b->unit[1], &w->unit[1], p);
    if (!b->projects)
        return;
    linear_pack_forward(&b->linear, p->params + b->weight.offset, NULL, w->packed_forward);
    if (!p->settle)
        norm_settle_running(&b->norm, &w->norm, p->params, p->buffers);
}

void residual_begin_backward(const struct residual *b, const struct residual_store *w, const real *params, real *grad)
{
    conv_norm_begin_backward(&b->unit[0], &w->unit[0], params, grad);
    conv_norm_begin_backward(&b->unit[1], &w->unit[1], params, grad);
    if (!b->projects)
        return;
    linear_pack_backward(&b->linear, params + b->weight.offset, w->packed_backward);
    memset(w->gradient, 0, linear_gradient_size(&b->linear) * sizeof(real));
    parameter_fill(&b->norm.gamma, 0, grad);
    parameter_fill(&b->norm.beta, 0, grad);
}

void residual_end_backward(const struct residual *b, const struct residual_store *w, real *grad)
{
    conv_norm_end_backward(&b->unit[0], &w->unit[0], grad);
    conv_norm_end_backward(&b->unit[1], &w->unit[1], grad);
    if (b->projects)
        linear_unpack_gradient(&b->linear, w->gradient, grad + b->weight.offset);
}

/* ---- the shortcut with weights ---- */

static size_t output_pixels(const struct residual *b)
{
    return (size_t)b->unit[0].conv.out_height * b->unit[0].conv.out_width;
}

/* The pixels at multiples of the stride, of n samples from sample `from` of the pass on. */
static void pick(const struct residual *b, const struct norm_images *x, size_t from, size_t n, real *picked)
{
    const struct conv *c = &b->unit[0].conv;
    size_t in = c->shape.in, step = c->shape.stride;
    for (size_t k = from; k < from + n; k++) {
        struct norm_rows image = norm_image(x, k);
        for (size_t i = 0; i < c->out_height; i++)
            for (size_t j = 0; j < c->out_width; j++, picked += in)
                memcpy(picked, image.at + i * step * image.row + j * step * in, in * sizeof(real));
    }
}

static void add_to_picked(const struct residual *b, const real *d_picked, size_t n, real *d_x)
{
    const struct conv *c = &b->unit[0].conv;
    size_t in = c->shape.in, step = c->shape.stride, line = (size_t)c->shape.width * in;
    for (size_t k = 0; k < n; k++, d_x += residual_input_size(b))
        for (size_t i = 0; i < c->out_height; i++)
            for (size_t j = 0; j < c->out_width; j++, d_picked += in)
                row_add(d_x + i * step * line + j * step * in, d_picked, in);
}

static bool together(const struct norm *n, const struct resnet_pass *p)
{
    return n->batch && p->settle;
}

static struct norm_images contiguous(const struct residual *b, real *at)
{
    const struct conv *c = &b->unit[1].conv;
    return (struct norm_images){{at, (size_t)c->out_width * c->shape.out}, residual_output_size(b)};
}

static void normalise_shortcut(const struct residual *b, const struct residual_store *w, const struct resnet_pass *p,
                               size_t k, const struct norm_images *y)
{
    size_t place = p->first + k;
    norm_apply(&b->norm, &w->norm, p->params, place, w->projected + place * residual_output_size(b),
               (struct norm_rows){0}, false, norm_image(y, k));
}

static void shortcut_forward(const struct residual *b, const struct residual_store *w, const struct residual_scratch *s,
                             const struct resnet_pass *p, const struct norm_images *y)
{
    struct norm_images x = conv_norm_inputs(&b->unit[0], &w->unit[0], p);
    size_t size = residual_output_size(b);
    for (size_t from = 0, block; from < p->n; from += block) {
        real *projected = w->projected + (p->first + from) * size;
        block = at_most(p->n - from, RESIDUAL_BLOCK);
        pick(b, &x, from, block, s->picked);
        linear_forward(&b->linear, block * output_pixels(b), s->picked, w->packed_forward, projected);
        for (size_t k = 0; k < block; k++) {
            if (!b->norm.batch || p->settle)
                norm_measure(&b->norm, &w->norm, p->first + from + k, projected + k * size);
            if (!together(&b->norm, p))
                normalise_shortcut(b, w, p, from + k, y);
        }
    }
    if (!together(&b->norm, p))
        return;
    norm_settle(&b->norm, &w->norm, p->params, p->n);
    for (size_t k = 0; k < p->n; k++)
        normalise_shortcut(b, w, p, k, y);
}

static void shortcut_sums(const struct residual *b, const struct residual_store *w, const struct resnet_pass *p,
                          size_t k, real *d)
{
    size_t place = p->first + k, size = residual_output_size(b);
    norm_sums(&b->norm, &w->norm, place, w->projected + place * size, (struct norm_rows){0}, d + k * size);
}

/* Adds to d_x. */
static void shortcut_backward(const struct residual *b, const struct residual_store *w,
                              const struct residual_scratch *s, const struct resnet_pass *p, real *d, real *d_x,
                              real *grad)
{
    struct norm_images x = conv_norm_inputs(&b->unit[0], &w->unit[0], p), inside = contiguous(b, s->d_projected);
    size_t size = residual_output_size(b), pixels = output_pixels(b);
    for (size_t k = 0; b->norm.batch && k < p->n; k++)
        shortcut_sums(b, w, p, k, d);
    norm_settle_gradient(&b->norm, &w->norm, p->params, p->n, grad);
    for (size_t from = 0, block; from < p->n; from += block) {
        block = at_most(p->n - from, RESIDUAL_BLOCK);
        for (size_t k = from; k < from + block; k++) {
            if (!b->norm.batch)
                shortcut_sums(b, w, p, k, d);
            norm_input_gradient(&b->norm, &w->norm, p->params, p->first + k, w->projected + (p->first + k) * size,
                                d + k * size, norm_image(&inside, k - from), grad);
        }
        pick(b, &x, from, block, s->picked);
        linear_backward_weight(&b->linear, block * pixels, s->picked, s->d_projected, w->gradient);
        linear_backward_input(&b->linear, block * pixels, s->d_projected, w->packed_backward, s->d_picked);
        add_to_picked(b, s->d_picked, block, d_x + from * residual_input_size(b));
    }
}

/* ---- the block ---- */

void residual_forward(const struct residual *b, const struct residual_store *w, const struct residual_scratch *s,
                      const struct resnet_pass *p, const struct norm_images *y)
{
    struct norm_images none = {0}, mid = conv_norm_inputs(&b->unit[1], &w->unit[1], p);
    struct norm_images shortcut = conv_norm_inputs(&b->unit[0], &w->unit[0], p);
    conv_norm_forward(&b->unit[0], &w->unit[0], p, &none, &mid);
    if (b->projects) {
        shortcut = contiguous(b, s->mid);
        shortcut_forward(b, w, s, p, &shortcut);
    }
    conv_norm_forward(&b->unit[1], &w->unit[1], p, &shortcut, y);
}

void residual_backward(const struct residual *b, const struct residual_store *w, const struct residual_scratch *s,
                       const struct resnet_pass *p, const struct norm_images *y, real *d_y, real *d_x, real *grad)
{
    struct norm_images mid = conv_norm_inputs(&b->unit[1], &w->unit[1], p);
    conv_norm_backward(&b->unit[1], &w->unit[1], p, y, d_y, NULL, s->mid, grad);
    conv_norm_backward(&b->unit[0], &w->unit[0], p, &mid, s->mid, b->projects ? NULL : d_y, d_x, grad);
    if (b->projects)
        shortcut_backward(b, w, s, p, d_y, d_x, grad);
}

void residual_contribution(const struct residual *b, const struct residual_store *w, size_t samples, real *buffers)
{
    norm_contribution(&b->unit[0].norm, &w->unit[0].norm, samples, buffers);
    norm_contribution(&b->unit[1].norm, &w->unit[1].norm, samples, buffers);
    if (b->projects)
        norm_contribution(&b->norm, &w->norm, samples, buffers);
}
