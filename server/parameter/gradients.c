/* Tree nodes live in a table by their first slot: a sum stays where its left operand is. */
#include "server/parameter/gradients.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"
#include "common/reduce.h"
#include "common/vecmath.h"

struct gradients {
    struct float_pool *parameter_pool, *buffer_pool;
    struct reduce *tree;
    struct gradient_sum nodes[]; /* (slots) */
};

void gradient_sum_fini(struct gradient_sum *c)
{
    buf_unref(&c->gradient);
    buf_unref(&c->buffers);
}

static void buf_add(struct buf *to, const struct buf *from)
{
    vec_add((float *)(void *)to->data, (const float *)(const void *)from->data, to->size / sizeof(float));
}

static void *node_add(void *left, void *right, void *context)
{
    (void)context;
    struct gradient_sum *l = left, *r = right;
    buf_add(l->gradient, r->gradient);
    if (l->buffers != NULL)
        buf_add(l->buffers, r->buffers);
    for (unsigned i = 0; i < GRADIENT_METRICS_MAX; i++)
        l->metrics[i] += r->metrics[i];
    gradient_sum_fini(r);
    return l;
}

static void node_drop(void *value, void *context)
{
    (void)context;
    gradient_sum_fini(value);
}

int gradients_new(uint32_t slots, struct float_pool *parameters, struct float_pool *buffers, struct gradients **out)
{
    struct gradients *g = calloc(1, sizeof *g + slots * sizeof g->nodes[0]);
    if (g == NULL)
        return ERR_MEMORY;
    g->parameter_pool = parameters;
    g->buffer_pool = buffers;
    int rc = reduce_new(slots, (struct reduce_ops){node_add, node_drop, NULL}, &g->tree);
    if (rc != 0)
        free(g);
    else
        *out = g;
    return rc;
}

void gradients_free(struct gradients **g)
{
    if (*g != NULL)
        reduce_free(&(*g)->tree);
    free(*g);
    *g = NULL;
}

void gradients_reset(struct gradients *g)
{
    reduce_reset(g->tree);
}

enum gradients_place gradients_place(const struct gradients *g, uint32_t slot, uint32_t count)
{
    if (count == 0 || !reduce_is_node(g->tree, slot, count))
        return GRADIENTS_OUT_OF_RANGE;
    uint32_t held = 0;
    for (uint32_t i = 0; i < count; i++)
        held += reduce_has(g->tree, slot + i);
    return held == 0 ? GRADIENTS_WANTED : held == count ? GRADIENTS_HELD : GRADIENTS_OVERLAP;
}

uint32_t gradients_missing(const struct gradients *g)
{
    return reduce_missing(g->tree);
}

/* Makes *b writable: ours alone, or a copy. */
static int own(struct buf **b, struct float_pool *pool)
{
    if (*b == NULL || atomic_load(&(*b)->refs) == 1)
        return 0;
    struct buf *copy = float_pool_take(pool);
    if (copy == NULL)
        return ERR_MEMORY;
    memcpy(copy->data, (*b)->data, copy->size);
    buf_unref(b);
    *b = copy;
    return 0;
}

int gradients_put(struct gradients *g, uint32_t slot, uint32_t count, struct gradient_sum *c)
{
    ASSERT(gradients_place(g, slot, count) == GRADIENTS_WANTED);
    struct gradient_sum *node = &g->nodes[slot];
    *node = *c;
    c->gradient = c->buffers = NULL;
    int rc = own(&node->gradient, g->parameter_pool);
    if (rc == 0)
        rc = own(&node->buffers, g->buffer_pool);
    if (rc != 0) {
        gradient_sum_fini(node);
        return rc;
    }
    return reduce_put(g->tree, slot, count, node);
}

void gradients_take(struct gradients *g, struct gradient_sum *sum)
{
    struct gradient_sum *root = reduce_take(g->tree);
    ASSERT(root != NULL);
    *sum = *root;
    root->gradient = root->buffers = NULL;
}
