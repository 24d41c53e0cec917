/* Planted: contributions are summed in the order of their arrival, not in the order of their slots. The tree gets each
 * at the place of the next arrival; which slots are really there is kept here. */
#include <stddef.h>
#include "common/error.h"
#include "common/reduce.h"

enum { TREES = 64 };

static struct tree {
    const struct reduce *reduce;
    uint64_t held; /* bit s: slot s has arrived */
    uint32_t arrived;
} trees[TREES];

int __real_reduce_put(struct reduce *r, uint32_t slot, uint32_t count, void *value);
int __wrap_reduce_put(struct reduce *r, uint32_t slot, uint32_t count, void *value);
bool __wrap_reduce_has(const struct reduce *r, uint32_t slot);
void *__real_reduce_take(struct reduce *r);
void *__wrap_reduce_take(struct reduce *r);
void __real_reduce_reset(struct reduce *r);
void __wrap_reduce_reset(struct reduce *r);
void __real_reduce_free(struct reduce **r);
void __wrap_reduce_free(struct reduce **r);

static struct tree *find(const struct reduce *r)
{
    struct tree *free_one = NULL;
    for (int i = 0; i < TREES; i++) {
        if (trees[i].reduce == r)
            return &trees[i];
        if (trees[i].reduce == NULL)
            free_one = &trees[i];
    }
    ASSERT(free_one != NULL);
    free_one->reduce = r;
    return free_one;
}

static void forget(const struct reduce *r)
{
    *find(r) = (struct tree){0};
}

bool __wrap_reduce_has(const struct reduce *r, uint32_t slot)
{
    return find(r)->held >> slot & 1;
}

int __wrap_reduce_put(struct reduce *r, uint32_t slot, uint32_t count, void *value)
{
    struct tree *t = find(r);
    t->held |= UINT64_C(1) << slot;
    return __real_reduce_put(r, t->arrived++, count, value);
}

void *__wrap_reduce_take(struct reduce *r)
{
    void *value = __real_reduce_take(r);
    if (value != NULL)
        forget(r);
    return value;
}

void __wrap_reduce_reset(struct reduce *r)
{
    forget(r);
    __real_reduce_reset(r);
}

void __wrap_reduce_free(struct reduce **r)
{
    if (*r != NULL)
        forget(*r);
    __real_reduce_free(r);
}
