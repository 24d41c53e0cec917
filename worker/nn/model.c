/* An encoder family and the projection head under one manifest; see model.h. */
#include "worker/nn/model.h"

#include <stdlib.h>
#include "proto/run_config.h"
#include "worker/nn/arena.h"
#include "worker/nn/encoder.h"
#include "worker/nn/head.h"
#include "worker/nn/rows.h"

struct model {
    const struct encoder_ops *ops;
    void *encoder;
    struct head head;
    struct manifest manifest;
    uint32_t feature_width, projection;
};

struct model_workspace {
    const struct encoder_ops *ops;
    void *encoder; /* the family's workspace */
    struct arena arena;
    struct head_workspace head;
    real *features, *d_features; /* (rows_max, F) */
    uint32_t rows_max;
    size_t rows;     /* of the last MODEL_TRAIN forward, 0 before it */
    size_t measured; /* of the last forward with statistics of its own, likewise */
};

static int check_spec(const struct model_spec *s, struct error *e)
{
    if (s->height == 0 || s->width == 0 || s->channels == 0)
        return error_set(e, ERR_CONFIG, "images of %ux%ux%u: no side may be zero", s->height, s->width, s->channels);
    if (s->hidden == 0)
        return error_set(e, ERR_CONFIG, "head.hidden = 0: use at least 1");
    if (s->projection == 0)
        return error_set(e, ERR_CONFIG, "mixture.dimensions = 0: use at least 1");
    return 0;
}

static const struct encoder_ops *family(int which)
{
    switch (which) {
    case ENCODER_CONV:
        return &conv_encoder_ops;
    case ENCODER_VIT:
        return &vit_encoder_ops;
    case ENCODER_RESNET:
        return &resnet_encoder_ops;
    default:
        return NULL;
    }
}

static int build(struct model *m, const struct model_spec *s, struct error *e)
{
    manifest_init(&m->manifest);
    m->projection = s->projection;
    m->ops = family(s->family);
    if (!m->ops)
        return error_set(e, ERR_CONFIG, "encoder.model: no family %d", s->family);
    int rc = m->ops->create(s, &m->encoder, e);
    if (rc != 0)
        return rc;
    m->feature_width = m->ops->width(m->encoder);
    rc = head_init(&m->head, m->feature_width, s->hidden, s->projection);
    if (rc == 0)
        rc = m->ops->describe(m->encoder, &m->manifest);
    if (rc == 0)
        rc = head_describe(&m->head, &m->manifest);
    return rc == 0 ? 0 : error_set(e, rc, "the model's tensors do not fit: make it smaller");
}

int model_new(const struct model_spec *spec, struct model **out, struct error *e)
{
    int rc = check_spec(spec, e);
    if (rc != 0)
        return rc;
    struct model *m = calloc(1, sizeof *m);
    if (!m)
        return error_set(e, ERR_MEMORY, "no memory for the model");
    rc = build(m, spec, e);
    if (rc != 0)
        model_free(&m);
    *out = m;
    return rc;
}

void model_free(struct model **m)
{
    if (!*m)
        return;
    if ((*m)->ops)
        (*m)->ops->destroy((*m)->encoder);
    head_fini(&(*m)->head);
    manifest_fini(&(*m)->manifest);
    free(*m);
    *m = NULL;
}

const struct manifest *model_manifest(const struct model *m)
{
    return &m->manifest;
}

uint32_t model_feature_width(const struct model *m)
{
    return m->feature_width;
}

void model_init(const struct model *m, uint64_t seed, real *params, real *buffers)
{
    m->ops->initialise(m->encoder, seed, params, buffers);
    head_initialise(&m->head, seed, params, buffers);
}

static void carve(const struct model *m, struct model_workspace *w)
{
    w->features = arena_reals(&w->arena, (size_t)w->rows_max * m->feature_width);
    w->d_features = arena_reals(&w->arena, (size_t)w->rows_max * m->feature_width);
    head_carve(&m->head, w->rows_max, &w->head, &w->arena);
}

int model_workspace_new(const struct model *m, uint32_t rows_max, struct model_workspace **out)
{
    struct model_workspace *w = calloc(1, sizeof *w);
    *out = NULL;
    if (!w)
        return ERR_MEMORY;
    w->ops = m->ops;
    w->rows_max = rows_max;
    carve(m, w);
    if (arena_allocate(&w->arena) != 0 || m->ops->workspace_new(m->encoder, rows_max, &w->encoder) != 0) {
        model_workspace_free(&w);
        return ERR_MEMORY;
    }
    carve(m, w);
    *out = w;
    return 0;
}

void model_workspace_free(struct model_workspace **ws)
{
    if (!*ws)
        return;
    (*ws)->ops->workspace_free((*ws)->encoder);
    arena_free(&(*ws)->arena);
    free(*ws);
    *ws = NULL;
}

void model_forward(const struct model *m, enum model_mode mode, const real *params, const real *buffers,
                   const real *images, uint32_t R, struct model_workspace *ws, real *features, real *z)
{
    ASSERT(R >= 2 && R <= ws->rows_max);
    ASSERT(z || mode == MODEL_EVAL);
    real *into = features ? features : ws->features;
    m->ops->forward(m->encoder, mode, params, buffers, images, R, ws->encoder, into);
    if (z)
        head_forward(&m->head, mode, params, buffers, into, R, &ws->head, z);
    ws->rows = mode == MODEL_TRAIN ? R : 0;
    ws->measured = mode != MODEL_EVAL ? R : 0;
}

void model_backward(const struct model *m, const real *params, const real *dz, const real *d_features,
                    struct model_workspace *ws, real *grad)
{
    ASSERT(ws->rows >= 2);
    head_backward(&m->head, params, dz, ws->rows, &ws->head, ws->d_features, grad);
    if (d_features)
        row_add(ws->d_features, d_features, ws->rows * m->feature_width);
    m->ops->backward(m->encoder, params, ws->d_features, ws->rows, ws->encoder, grad);
}

void model_buffer_contribution(const struct model *m, const struct model_workspace *ws, real *out)
{
    ASSERT(ws->measured >= 2);
    if (m->ops->contribution)
        m->ops->contribution(m->encoder, ws->encoder, ws->measured, out);
    head_buffer_contribution(&m->head, &ws->head, ws->measured, out);
}
