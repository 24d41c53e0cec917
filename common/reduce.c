/* The tree is kept as one array of values per level, laid end to end. A value rests at a node only while its sibling is
 * missing: as soon as both are there they are added and the sum climbs. So at most one value per pending subtree is
 * held, and which additions happen, with which operands, is fixed by M alone. */
#include "common/reduce.h"

#include <stdlib.h>
#include <string.h>
#include "common/error.h"

enum {
    SLOTS_MAX = 1 << 20, /* far beyond any batch; bounds what a configuration can allocate */
    LEVELS_MAX = 21,
};
_Static_assert(SLOTS_MAX == 1 << (LEVELS_MAX - 1), "the root of the largest tree is its last level");

struct reduce {
    struct reduce_ops ops;
    uint32_t slots;
    uint32_t missing;           /* slots not yet covered */
    uint32_t levels;            /* the root is at level levels - 1, index 0 */
    void **level[LEVELS_MAX];   /* level[l][i]: the resting value of node (l, i), or NULL; into nodes */
    uint32_t count[LEVELS_MAX]; /* nodes of a level: ceil(slots / 2^l) */
    void **nodes;               /* owned */
    size_t node_count;
    uint8_t *covered; /* (slots), 1 where a value holds the slot; owned */
};

static void lay_out_levels(struct reduce *r)
{
    uint32_t width = r->slots;
    for (;;) {
        r->count[r->levels++] = width;
        r->node_count += width;
        if (width == 1)
            return;
        width = (width + 1) / 2;
    }
}

int reduce_new(uint32_t slots, struct reduce_ops ops, struct reduce **out)
{
    *out = NULL;
    if (slots == 0 || slots > SLOTS_MAX)
        return ERR_RANGE;
    struct reduce *r = calloc(1, sizeof *r);
    if (r == NULL)
        return ERR_MEMORY;
    r->ops = ops;
    r->slots = r->missing = slots;
    lay_out_levels(r);
    r->nodes = calloc(r->node_count, sizeof *r->nodes);
    r->covered = calloc(slots, sizeof *r->covered);
    if (r->nodes == NULL || r->covered == NULL) {
        reduce_free(&r);
        return ERR_MEMORY;
    }
    void **next = r->nodes;
    for (uint32_t l = 0; l < r->levels; next += r->count[l++])
        r->level[l] = next;
    *out = r;
    return 0;
}

void reduce_free(struct reduce **r)
{
    struct reduce *gone = *r;
    *r = NULL;
    if (gone == NULL)
        return;
    if (gone->nodes != NULL && gone->covered != NULL)
        reduce_reset(gone);
    free(gone->nodes);
    free(gone->covered);
    free(gone);
}

void reduce_reset(struct reduce *r)
{
    for (size_t i = 0; i < r->node_count; i++) {
        if (r->nodes[i] != NULL)
            r->ops.drop(r->nodes[i], r->ops.context);
        r->nodes[i] = NULL;
    }
    memset(r->covered, 0, r->slots * sizeof *r->covered);
    r->missing = r->slots;
}

/* The lowest level with a node [slot, slot+count), or -1. On the ragged edge several levels have that node, all with
 * the same value. */
static int find_level(const struct reduce *r, uint32_t slot, uint32_t count)
{
    if (slot >= r->slots || count == 0 || count > r->slots - slot)
        return -1;
    for (uint32_t l = 0; l < r->levels; l++) {
        uint32_t width = (uint32_t)1 << l, rest = r->slots - slot;
        if (slot % width != 0)
            return -1;
        if (count == (rest < width ? rest : width))
            return (int)l;
    }
    return -1;
}

bool reduce_is_node(const struct reduce *r, uint32_t slot, uint32_t count)
{
    return find_level(r, slot, count) >= 0;
}

bool reduce_has(const struct reduce *r, uint32_t slot)
{
    return slot < r->slots && r->covered[slot] == 1;
}

uint32_t reduce_missing(const struct reduce *r)
{
    return r->missing;
}

static bool any_covered(const struct reduce *r, uint32_t slot, uint32_t count)
{
    return memchr(r->covered + slot, 1, count) != NULL;
}

/* Adds the value of node (l, i) upward until it has to wait for a sibling or is the root. */
static void climb(struct reduce *r, uint32_t l, uint32_t i, void *value)
{
    for (; l + 1 < r->levels; l++, i /= 2) {
        uint32_t sibling = i ^ 1;
        if (sibling >= r->count[l])
            continue; /* the right half lies beyond M: the parent is the left half alone */
        void *other = r->level[l][sibling];
        if (other == NULL)
            break;
        r->level[l][sibling] = NULL;
        value = i % 2 == 0 ? r->ops.add(value, other, r->ops.context) : r->ops.add(other, value, r->ops.context);
        ASSERT(value != NULL);
    }
    r->level[l][i] = value;
}

int reduce_put(struct reduce *r, uint32_t slot, uint32_t count, void *value)
{
    ASSERT(value != NULL);
    int level = find_level(r, slot, count);
    int rc = level < 0 ? ERR_RANGE : any_covered(r, slot, count) ? ERR_STATE : 0;
    if (rc != 0) {
        r->ops.drop(value, r->ops.context);
        return rc;
    }
    memset(r->covered + slot, 1, count);
    r->missing -= count;
    climb(r, (uint32_t)level, slot >> level, value);
    return 0;
}

void *reduce_take(struct reduce *r)
{
    if (r->missing > 0)
        return NULL;
    void **root = &r->level[r->levels - 1][0];
    void *value = *root;
    ASSERT(value != NULL);
    *root = NULL;
    reduce_reset(r);
    return value;
}
