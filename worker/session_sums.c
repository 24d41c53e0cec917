/* A lease of more than one slot is a node of the reduction tree (common/reduce.h), and its slots' gradients leave as
 * one sum: half the bytes for two slots, a quarter for four. The additions are those that the parameter server would
 * make, in the same order, so the result is the same bytes.
 *
 * A gradient takes part once it is computed and its statistics are acknowledged, unless it was sent before: its tensors
 * are shared then. Slots that are still being computed are waited for. Slots that are lost (refused, dropped) are not,
 * and what there is of the lease is then sent in parts. */
#include "worker/session_internal.h"

#include "common/vecmath.h"

/* Whether e itself is ready to be added to its sibling. */
static bool is_loose(const struct slot_in_hand *e)
{
    return e->phase == SLOT_DONE && e->gradient.held && !e->gradient.sent && !e->stats.held;
}

static bool of_one_lease(const struct slot_in_hand *a, const struct slot_in_hand *b)
{
    return a->job.step == b->job.step && a->lease_slot == b->lease_slot && a->lease_slots == b->lease_slots;
}

/* The other child of e's parent in the tree; NULL when it is not in hand, or not ready. */
static struct slot_in_hand *find_sibling(struct session *s, const struct slot_in_hand *e)
{
    uint32_t slot = e->gradient.msg.slot, slots = e->gradient.msg.slots;
    bool left = slot % (2 * slots) == 0;
    struct slot_in_hand *other = slots_find(s, e->job.step, left ? slot + slots : slot - slots);
    bool fits = other != NULL && of_one_lease(e, other) && is_loose(other) && other->gradient.msg.slots == slots;
    return fits ? other : NULL;
}

static void add_tensor(struct msg *to, const struct msg *from, const char *name)
{
    const struct msg_tensor *left = msg_tensor(to, name, DTYPE_F32, NULL),
                            *right = msg_tensor(from, name, DTYPE_F32, NULL);
    if (left != NULL && right != NULL)
        vec_add((float *)(void *)left->data->data, (const float *)(const void *)right->data->data,
                left->data->size / sizeof(float));
}

static void add_metrics(struct msg *to, const struct msg *from)
{
    const struct msg_tensor *left = msg_tensor(to, "metrics", DTYPE_F64, NULL),
                            *right = msg_tensor(from, "metrics", DTYPE_F64, NULL);
    double *sum = (double *)(void *)left->data->data;
    const double *term = (const double *)(const void *)right->data->data;
    for (size_t i = 0; i < left->data->size / sizeof(double) && i < right->data->size / sizeof(double); i++)
        sum[i] += term[i];
}

/* right's gradient goes into left's; right may be free afterwards. */
static void add_right(struct session *s, struct slot_in_hand *left, struct slot_in_hand *right)
{
    add_tensor(&left->gradient.msg, &right->gradient.msg, "grad");
    add_tensor(&left->gradient.msg, &right->gradient.msg, "buffers");
    add_metrics(&left->gradient.msg, &right->gradient.msg);
    left->gradient.msg.slots += right->gradient.msg.slots;
    contribution_drop(&right->gradient);
    slots_settle(s, right);
}

/* Whether another slot of the lease will still become ready. */
static bool more_to_come(const struct session *s, const struct slot_in_hand *e)
{
    for (uint32_t i = 0; i < s->slots_max; i++) {
        const struct slot_in_hand *other = &s->slots[i];
        if (other == e || other->phase == SLOT_FREE || other->abandoned || !of_one_lease(e, other))
            continue;
        if (other->phase != SLOT_DONE || (other->gradient.held && other->stats.held))
            return true;
    }
    return false;
}

struct slot_in_hand *sums_take(struct session *s, struct slot_in_hand *e)
{
    struct slot_in_hand *sibling;
    if (e->gradient.sent || e->lease_slots == 1)
        return e;
    while (e->gradient.msg.slots < e->lease_slots && (sibling = find_sibling(s, e)) != NULL) {
        bool left = e->gradient.msg.slot < sibling->gradient.msg.slot;
        add_right(s, left ? e : sibling, left ? sibling : e);
        e = left ? e : sibling;
    }
    return e->gradient.msg.slots == e->lease_slots || !more_to_come(s, e) ? e : NULL;
}
