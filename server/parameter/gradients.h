/* The contributions to the current step: gradients, buffer statistics and metrics, added in the fixed tree of
 * common/reduce.h as they arrive. What comes out depends on the contributions only, never on their order. */
#ifndef DECANT_SERVER_PARAMETER_GRADIENTS_H
#define DECANT_SERVER_PARAMETER_GRADIENTS_H

#include <stdint.h>
#include "common/buf.h"
#include "common/float_pool.h"

enum { GRADIENT_METRICS_MAX = 16 };

/* Sums over the slots of a subtree. */
struct gradient_sum {
    struct buf *gradient;                 /* (P) */
    struct buf *buffers;                  /* (Q), NULL when Q = 0 */
    double metrics[GRADIENT_METRICS_MAX]; /* those not sent are 0 */
};

void gradient_sum_fini(struct gradient_sum *c);

struct gradients;

/* The pools outlive the object; `buffers` is NULL when Q = 0. 0 or ERR_MEMORY. */
int gradients_new(uint32_t slots, struct float_pool *parameters, struct float_pool *buffers, struct gradients **out);
void gradients_free(struct gradients **g);
void gradients_reset(struct gradients *g); /* drops what has arrived */

enum gradients_place {
    GRADIENTS_WANTED,      /* a node of the tree, none of whose slots is held */
    GRADIENTS_HELD,        /* every slot of it is held */
    GRADIENTS_OVERLAP,     /* some are: a sum cannot be taken apart */
    GRADIENTS_OUT_OF_RANGE /* not a node of the tree */
};
enum gradients_place gradients_place(const struct gradients *g, uint32_t slot, uint32_t count);
uint32_t gradients_missing(const struct gradients *g); /* slots */

/* Takes over the contribution's buffers (also on failure) for slots that are WANTED, and adds upwards. A buffer that
 * nobody else holds becomes the accumulator in place; another is copied into a pooled one. 0 or ERR_MEMORY. */
int gradients_put(struct gradients *g, uint32_t slot, uint32_t count, struct gradient_sum *c);
/* The sum once no slot is missing; the tree is empty again. The caller finishes it. */
void gradients_take(struct gradients *g, struct gradient_sum *sum);

#endif
