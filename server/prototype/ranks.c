/* Sorted by radix, a byte at a time from the lowest: the bits of doubles that are not negative are in their order.
 * Each pass keeps the order of equal bytes, so that equal usages stay in the order of their index. A comparison sort
 * of 65 536 usages would take as long as the rest of a step. */
#include "server/prototype/ranks.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "common/error.h"

enum { BYTES = sizeof(uint64_t), BUCKETS = 256 };

struct ranked {
    uint64_t key; /* complement of the usage's bits: ascending keys are descending usages */
    uint32_t k;
};

struct ranks {
    uint32_t K;
    double *share;               /* (K) of each rank */
    double *wanted;              /* (K) of each component */
    struct ranked *order, *next; /* (K) */
};

static void fill_shares(double *share, uint32_t K, double power)
{
    double sum = 0;
    for (uint32_t r = 0; r < K; r++) {
        share[r] = pow(r + 1.0, -power);
        sum += share[r];
    }
    for (uint32_t r = 0; r < K; r++)
        share[r] /= sum;
}

int ranks_new(uint32_t K, double power, struct ranks **out)
{
    ASSERT(K >= 1 && power > 0);
    struct ranks *r = calloc(1, sizeof *r);
    *out = r;
    if (r == NULL)
        return ERR_MEMORY;
    r->K = K;
    r->share = calloc(K, sizeof *r->share);
    r->wanted = calloc(K, sizeof *r->wanted);
    r->order = calloc(K, sizeof *r->order);
    r->next = calloc(K, sizeof *r->next);
    if (!r->share || !r->wanted || !r->order || !r->next) {
        ranks_free(out);
        return ERR_MEMORY;
    }
    fill_shares(r->share, K, power);
    return 0;
}

void ranks_free(struct ranks **out)
{
    struct ranks *r = *out;
    if (r == NULL)
        return;
    free(r->share);
    free(r->wanted);
    free(r->order);
    free(r->next);
    free(r);
    *out = NULL;
}

double ranks_least(const struct ranks *r)
{
    return r->share[r->K - 1];
}

static uint32_t byte_of(uint64_t key, int byte)
{
    return (key >> (8 * byte)) & (BUCKETS - 1);
}

/* Where each bucket begins; false when all keys have the same byte there. */
static bool bucket_starts(const struct ranks *r, int byte, uint32_t start[BUCKETS])
{
    uint32_t count[BUCKETS] = {0}, at = 0;
    for (uint32_t i = 0; i < r->K; i++)
        count[byte_of(r->order[i].key, byte)]++;
    for (int b = 0; b < BUCKETS; b++) {
        if (count[b] == r->K)
            return false;
        start[b] = at;
        at += count[b];
    }
    return true;
}

static void sort_by_byte(struct ranks *r, int byte)
{
    uint32_t start[BUCKETS];
    if (!bucket_starts(r, byte, start))
        return;
    for (uint32_t i = 0; i < r->K; i++)
        r->next[start[byte_of(r->order[i].key, byte)]++] = r->order[i];
    struct ranked *sorted = r->next;
    r->next = r->order;
    r->order = sorted;
}

const double *ranks_wanted(struct ranks *r, const double *usage)
{
    for (uint32_t k = 0; k < r->K; k++) {
        uint64_t bits;
        memcpy(&bits, &usage[k], sizeof bits);
        r->order[k] = (struct ranked){~bits, k};
    }
    for (int byte = 0; byte < BYTES; byte++)
        sort_by_byte(r, byte);
    for (uint32_t i = 0; i < r->K; i++)
        r->wanted[r->order[i].k] = r->share[i];
    return r->wanted;
}
