/* Three linear layers around two fused BatchNorm + GELU; see head.h. */
#include "worker/nn/head.h"

#include <stdio.h>
#include <string.h>
#include "worker/nn/batchnorm.h"
#include "worker/nn/columns.h"

static const double INITIAL_DEVIATION = 0.02; /* of the linear weights: the recipe's, which BatchNorm rescales anyway */
static const double BUFFER_MOMENTUM = 0.1;

int head_init(struct head *h, uint32_t features, uint32_t hidden, uint32_t projection)
{
    const uint32_t widths[HEAD_LAYERS + 1] = {features, hidden, hidden, projection};
    for (int i = 0; i < HEAD_LAYERS; i++)
        if (linear_init(&h->linear[i], widths[i], widths[i + 1], PRECISION_FLOAT32) != 0)
            return ERR_MEMORY;
    return 0;
}

void head_fini(struct head *h)
{
    for (int i = 0; i < HEAD_LAYERS; i++)
        linear_fini(&h->linear[i]);
}

static int add_buffer(struct manifest *m, int norm, const char *what, uint64_t n, size_t *offset)
{
    struct manifest_entry entry = {.rank = 1, .shape = {n}, .momentum = BUFFER_MOMENTUM};
    snprintf(entry.name, sizeof entry.name, "head.bn%d.%s", norm + 1, what);
    int rc = manifest_add_buffer(m, &entry);
    if (rc == 0)
        *offset = m->buffers[m->buffer_count - 1].offset;
    return rc;
}

static int describe_norm(struct head *h, int i, uint64_t n, struct manifest *m)
{
    char prefix[32];
    snprintf(prefix, sizeof prefix, "head.bn%d", i + 1);
    int rc = parameter_vector(m, prefix, "weight", n, &h->gamma[i]);
    rc = rc ? rc : parameter_vector(m, prefix, "bias", n, &h->beta[i]);
    rc = rc ? rc : add_buffer(m, i, "mean", n, &h->mean[i]);
    return rc ? rc : add_buffer(m, i, "var", n, &h->variance[i]);
}

int head_describe(struct head *h, struct manifest *m)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < HEAD_LAYERS; i++) {
        const struct linear *l = &h->linear[i];
        char prefix[32];
        snprintf(prefix, sizeof prefix, "head.linear%d", i + 1);
        rc = parameter_matrix(m, prefix, "weight", l->out, l->in, &h->weight[i]);
        rc = rc ? rc : parameter_vector(m, prefix, "bias", l->out, &h->bias[i]);
        if (rc == 0 && i < HEAD_NORMS)
            rc = describe_norm(h, i, l->out, m);
    }
    return rc;
}

void head_initialise(const struct head *h, uint64_t seed, real *params, real *buffers)
{
    for (int i = 0; i < HEAD_LAYERS; i++) {
        parameter_normal(&h->weight[i], seed, INITIAL_DEVIATION, params);
        parameter_fill(&h->bias[i], 0, params);
    }
    for (int i = 0; i < HEAD_NORMS; i++) {
        parameter_fill(&h->gamma[i], 1, params);
        parameter_fill(&h->beta[i], 0, params);
        for (size_t j = 0; j < h->linear[i].out; j++) {
            buffers[h->mean[i] + j] = 0;
            buffers[h->variance[i] + j] = 1;
        }
    }
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void head_carve(const struct head *h, uint32_t rows_max, struct head_workspace *w, struct arena *a)
{
    size_t packed = 0, gradient = 0, hidden = h->linear[0].out;
    for (int i = 0; i < HEAD_LAYERS; i++) {
        const struct linear *l = &h->linear[i];
        packed = larger(packed, larger(linear_packed_forward_size(l), linear_packed_backward_size(l)));
        gradient = larger(gradient, linear_gradient_size(l));
    }
    w->input = arena_reals(a, (size_t)rows_max * h->linear[0].in);
    for (int i = 0; i < HEAD_NORMS; i++) {
        w->x[i] = arena_reals(a, rows_max * hidden);
        w->y[i] = arena_reals(a, rows_max * hidden);
        w->mean[i] = arena_reals(a, hidden);
        w->variance[i] = arena_reals(a, hidden);
        w->delta[i] = arena_reals(a, rows_max * hidden);
    }
    w->packed = arena_reals(a, packed);
    w->gradient = arena_reals(a, gradient);
    w->scratch = arena_reals(a, BATCHNORM_SCRATCH * hidden);
}

static void layer_forward(const struct head *h, int i, const real *params, const real *x, size_t R,
                          struct head_workspace *w, real *y)
{
    linear_pack_forward(&h->linear[i], params + h->weight[i].offset, params + h->bias[i].offset, w->packed);
    linear_forward(&h->linear[i], R, x, w->packed, y);
}

void head_forward(const struct head *h, enum model_mode mode, const real *params, const real *buffers,
                  const real *features, size_t R, struct head_workspace *w, real *z)
{
    size_t N = h->linear[0].out;
    const real *x = features;
    if (mode == MODEL_TRAIN)
        memcpy(w->input, features, R * h->linear[0].in * sizeof(real));
    for (int i = 0; i < HEAD_NORMS; i++) {
        const real *mean = w->mean[i], *variance = w->variance[i];
        layer_forward(h, i, params, x, R, w, w->x[i]);
        if (mode == MODEL_EVAL) {
            mean = buffers + h->mean[i];
            variance = buffers + h->variance[i];
        } else {
            batchnorm_statistics(w->x[i], R, N, w->mean[i], w->variance[i]);
        }
        batchnorm_gelu_forward(w->x[i], R, N, mean, variance, params + h->gamma[i].offset, params + h->beta[i].offset,
                               w->y[i], w->scratch);
        x = w->y[i];
    }
    layer_forward(h, HEAD_NORMS, params, x, R, w, z);
}

/* Gradients of layer i's parameters, and d_x (R,in) wrt its input. */
static void layer_backward(const struct head *h, int i, const real *params, const real *x, const real *d_y, size_t R,
                           struct head_workspace *w, real *d_x, real *grad)
{
    const struct linear *l = &h->linear[i];
    columns_sum(d_y, R, l->out, grad + h->bias[i].offset);
    memset(w->gradient, 0, linear_gradient_size(l) * sizeof(real));
    linear_backward_weight(l, R, x, d_y, w->gradient);
    linear_unpack_gradient(l, w->gradient, grad + h->weight[i].offset);
    linear_pack_backward(l, params + h->weight[i].offset, w->packed);
    linear_backward_input(l, R, d_y, w->packed, d_x);
}

void head_backward(const struct head *h, const real *params, const real *dz, size_t R, struct head_workspace *w,
                   real *d_features, real *grad)
{
    const real *d_y = dz;
    for (int i = HEAD_NORMS; i > 0; i--) {
        int norm = i - 1;
        real *d = w->delta[norm];
        layer_backward(h, i, params, w->y[norm], d_y, R, w, d, grad);
        batchnorm_gelu_backward(w->x[norm], R, h->linear[norm].out, w->mean[norm], w->variance[norm],
                                params + h->gamma[norm].offset, params + h->beta[norm].offset, d,
                                grad + h->gamma[norm].offset, grad + h->beta[norm].offset, w->scratch);
        d_y = d;
    }
    layer_backward(h, 0, params, w->input, d_y, R, w, d_features, grad);
}

void head_buffer_contribution(const struct head *h, const struct head_workspace *w, size_t R, real *buffers)
{
    real unbiased = (real)R / (real)(R - 1);
    for (int i = 0; i < HEAD_NORMS; i++)
        for (size_t j = 0; j < h->linear[i].out; j++) {
            buffers[h->mean[i] + j] = w->mean[i][j];
            buffers[h->variance[i] + j] = w->variance[i][j] * unbiased;
        }
}
