/* Blocks of samples through convolution and norm; see conv_norm.h. */
#include "worker/nn/conv_norm.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "common/at_most.h"
#include "worker/nn/rows.h"

static const double BUFFER_MOMENTUM = 0.1; /* as the head's */

int conv_norm_init(struct conv_norm *u, struct conv_shape shape, struct norm_kind kind,
                   enum encoder_precision precision)
{
    int rc = conv_init(&u->conv, shape, precision);
    u->norm = (struct norm){.sample = {.height = u->conv.out_height,
                                       .width = u->conv.out_width,
                                       .channels = shape.out,
                                       .groups = kind.groups},
                            .batch = kind.batch};
    return rc;
}

void conv_norm_fini(struct conv_norm *u)
{
    conv_fini(&u->conv);
}

static int add_buffer(struct manifest *m, const char *prefix, const char *what, uint64_t n, size_t *offset)
{
    struct manifest_entry entry = {.rank = 1, .shape = {n}, .momentum = BUFFER_MOMENTUM};
    snprintf(entry.name, sizeof entry.name, "%s.%s", prefix, what);
    int rc = manifest_add_buffer(m, &entry);
    if (rc == 0)
        *offset = m->buffers[m->buffer_count - 1].offset;
    return rc;
}

int norm_describe(struct norm *n, const char *prefix, struct manifest *m)
{
    uint32_t C = n->sample.channels;
    int rc = parameter_vector(m, prefix, "weight", C, &n->gamma);
    rc = rc ? rc : parameter_vector(m, prefix, "bias", C, &n->beta);
    if (rc == 0 && n->batch)
        rc = add_buffer(m, prefix, "mean", C, &n->mean);
    if (rc == 0 && n->batch)
        rc = add_buffer(m, prefix, "var", C, &n->variance);
    return rc;
}

void norm_initialise(const struct norm *n, real *params, real *buffers)
{
    parameter_fill(&n->gamma, 1, params);
    parameter_fill(&n->beta, 0, params);
    for (uint32_t c = 0; n->batch && c < n->sample.channels; c++) {
        buffers[n->mean + c] = 0;
        buffers[n->variance + c] = 1;
    }
}

int conv_norm_describe(struct conv_norm *u, const char *prefix, int number, struct manifest *m)
{
    const struct conv_shape *s = &u->conv.shape;
    char conv[64], norm[64], suffix[16] = "";
    if (number > 0)
        snprintf(suffix, sizeof suffix, "%d", number);
    snprintf(conv, sizeof conv, "%.32s.conv%s", prefix, suffix);
    snprintf(norm, sizeof norm, "%.32s.norm%s", prefix, suffix);
    int rc = parameter_matrix(m, conv, "weight", s->out, (uint64_t)9 * s->in, &u->weight);
    return rc ? rc : norm_describe(&u->norm, norm, m);
}

/* Convolutions as PyTorch: kaiming_uniform with a = sqrt 5, that is U(+-1/sqrt(fan_in)). */
void conv_norm_initialise(const struct conv_norm *u, uint64_t seed, real *params, real *buffers)
{
    parameter_uniform(&u->weight, seed, 1 / sqrt(9.0 * u->conv.shape.in), params);
    norm_initialise(&u->norm, params, buffers);
}

void conv_norm_carve(const struct conv_norm *u, size_t places, struct conv_norm_store *w, struct arena *a)
{
    const struct conv *c = &u->conv;
    w->input = arena_reals(a, places * conv_padded_size(c));
    w->output = arena_reals(a, places * conv_output_size(c));
    w->packed_forward = arena_reals(a, conv_packed_forward_size(c));
    w->packed_backward = arena_reals(a, conv_packed_backward_size(c));
    w->delta = arena_reals(a, c->block * conv_delta_size(c));
    w->gradient = arena_reals(a, conv_gradient_size(c));
    norm_carve(&u->norm, places, &w->norm, a);
}

void conv_norm_begin_forward(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p)
{
    conv_pack_forward(&u->conv, p->params + u->weight.offset, w->packed_forward);
    if (!p->settle)
        norm_settle_running(&u->norm, &w->norm, p->params, p->buffers);
}

void conv_norm_begin_backward(const struct conv_norm *u, const struct conv_norm_store *w, const real *params,
                              real *grad)
{
    conv_pack_backward(&u->conv, params + u->weight.offset, w->packed_backward);
    memset(w->gradient, 0, conv_gradient_size(&u->conv) * sizeof(real));
    parameter_fill(&u->norm.gamma, 0, grad);
    parameter_fill(&u->norm.beta, 0, grad);
}

void conv_norm_end_backward(const struct conv_norm *u, const struct conv_norm_store *w, real *grad)
{
    conv_unpack_gradient(&u->conv, w->gradient, grad + u->weight.offset);
}

struct norm_images conv_norm_inputs(const struct conv_norm *u, const struct conv_norm_store *w,
                                    const struct resnet_pass *p)
{
    const struct conv *c = &u->conv;
    return (struct norm_images){{conv_padded_image(c, w->input, p->first), (size_t)c->padded_width * c->shape.in},
                                conv_padded_size(c)};
}

/* Whether the pass's samples wait for each other. */
static bool together(const struct norm *n, const struct resnet_pass *p)
{
    return n->batch && p->settle;
}

static void apply(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p, size_t k,
                  const struct norm_images *residual, const struct norm_images *y)
{
    norm_apply(&u->norm, &w->norm, p->params, p->first + k, w->output + (p->first + k) * conv_output_size(&u->conv),
               norm_image(residual, k), true, norm_image(y, k));
}

void conv_norm_forward(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p,
                       const struct norm_images *residual, const struct norm_images *y)
{
    const struct conv *c = &u->conv;
    size_t size = conv_output_size(c), padded = conv_padded_size(c);
    for (size_t from = 0, block; from < p->n; from += block) {
        size_t place = p->first + from;
        block = at_most(p->n - from, c->block);
        conv_forward(c, block, w->input + place * padded, w->packed_forward, p->scratch, w->output + place * size);
        for (size_t k = from; k < from + block; k++) {
            if (!u->norm.batch || p->settle)
                norm_measure(&u->norm, &w->norm, p->first + k, w->output + (p->first + k) * size);
            if (!together(&u->norm, p))
                apply(u, w, p, k, residual, y);
        }
    }
    if (!together(&u->norm, p))
        return;
    norm_settle(&u->norm, &w->norm, p->params, p->n);
    for (size_t k = 0; k < p->n; k++)
        apply(u, w, p, k, residual, y);
}

static void sums(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p, size_t k,
                 const struct norm_images *y, real *d)
{
    size_t size = conv_output_size(&u->conv);
    norm_sums(&u->norm, &w->norm, p->first + k, w->output + (p->first + k) * size, norm_image(y, k), d + k * size);
}

/* The convolution's output gradients of one sample, into place i of its block. */
static void deltas(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p, size_t k,
                   size_t i, const real *d, real *grad)
{
    const struct conv *c = &u->conv;
    size_t size = conv_output_size(c);
    struct norm_rows delta = {conv_delta_image(c, w->delta, i), (size_t)c->delta_width * c->shape.out};
    norm_input_gradient(&u->norm, &w->norm, p->params, p->first + k, w->output + (p->first + k) * size, d + k * size,
                        delta, grad);
}

void conv_norm_backward(const struct conv_norm *u, const struct conv_norm_store *w, const struct resnet_pass *p,
                        const struct norm_images *y, real *d, const real *add, real *d_input, real *grad)
{
    const struct conv *c = &u->conv;
    size_t input = (size_t)c->shape.height * c->shape.width * c->shape.in;
    for (size_t k = 0; u->norm.batch && k < p->n; k++)
        sums(u, w, p, k, y, d);
    norm_settle_gradient(&u->norm, &w->norm, p->params, p->n, grad);
    for (size_t from = 0, block; from < p->n; from += block) {
        block = at_most(p->n - from, c->block);
        for (size_t k = from; k < from + block; k++) {
            if (!u->norm.batch)
                sums(u, w, p, k, y, d);
            deltas(u, w, p, k, k - from, d, grad);
        }
        conv_backward_weight(c, block, w->input + (p->first + from) * conv_padded_size(c), w->delta, p->scratch,
                             w->gradient);
        if (d_input)
            conv_backward_input(c, block, w->delta, w->packed_backward, p->scratch, d_input + from * input);
        if (d_input && add)
            row_add(d_input + from * input, add + from * input, block * input);
    }
}
