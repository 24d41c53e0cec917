/* The moment at which the core gets weights: from a checkpoint (core.c) or from a worker's INIT (core_messages.c). */
#include "server/parameter/core_state.h"

int core_adopt_weights(struct parameter_core *c, struct manifest *manifest, struct weight_vectors *vectors)
{
    int rc = weights_init(&c->weights, manifest, optimiser_from_config(&c->config), vectors);
    if (rc != 0)
        return rc;
    c->ready = true;
    return gradients_new((uint32_t)c->config.run.slots, c->weights.parameter_pool, c->weights.buffer_pool,
                         &c->gradients);
}
