/* The fixed binary tree in which contributions of slots are added.
 *
 * Leaves are slots 0..M-1 (any M >= 1). Node (level l, index i) covers slots [i*2^l, min((i+1)*2^l, M)); its value
 * is left + right in float, or left alone when the right half lies beyond M. The root's value depends on the leaves
 * only, never on the order of arrival or on who summed a subtree:
 *
 *      level 2             (0..3)
 *      level 1       (0..1)      (2..3)
 *      level 0      0     1     2     3
 *
 * Values arrive for whole nodes: a worker that holds all slots of an aligned subtree may hand in their sum. Nodes
 * are opaque; `add` combines two siblings (left, right), consumes both and returns their sum. */
#ifndef DECANT_COMMON_REDUCE_H
#define DECANT_COMMON_REDUCE_H

#include <stdbool.h>
#include <stdint.h>

struct reduce;

struct reduce_ops {
    void *(*add)(void *left, void *right, void *context); /* consumes both, returns the sum (may be left, reused) */
    void (*drop)(void *value, void *context);             /* frees a value that is no longer wanted */
    void *context;
};

int reduce_new(uint32_t slots, struct reduce_ops ops, struct reduce **out); /* slots 1..2^20; ERR_RANGE, ERR_MEMORY */
void reduce_free(struct reduce **r);                                        /* drops held values */
void reduce_reset(struct reduce *r);                                        /* drops held values, starts empty */

/* True when [slot, slot+count) is a node of the tree: count a power of two aligned at slot, or the ragged right edge.
 */
bool reduce_is_node(const struct reduce *r, uint32_t slot, uint32_t count);
bool reduce_has(const struct reduce *r, uint32_t slot); /* slot is already covered */
uint32_t reduce_missing(const struct reduce *r);        /* slots not yet covered */

/* Takes ownership of value for slots [slot, slot+count) and adds upward as far as siblings allow.
 * 0; ERR_RANGE when it is not a node; ERR_STATE when any of its slots is already covered. On both errors value has been
 * dropped. */
int reduce_put(struct reduce *r, uint32_t slot, uint32_t count, void *value);
/* The root once nothing is missing; ownership passes to the caller and the tree is empty again. NULL before that. */
void *reduce_take(struct reduce *r);

#endif
