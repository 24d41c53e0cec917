/* Philox4x32-10 and the distributions drawn from it. */
#include "common/rng.h"

#include <math.h>
#include "common/error.h"

enum { ROUNDS = 10 };

void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0, p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9; /* golden ratio */
        k1 += 0xBB67AE85; /* sqrt(3) - 1 */
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): a bijection in which every input bit moves every output
 * bit. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static uint64_t name_hash(uint64_t start, const uint64_t *name, size_t n)
{
    uint64_t h = start;
    for (size_t i = 0; i < n; i++)
        h = mix(h + 0x9E3779B97F4A7C15u + name[i]);
    return h;
}

void rng_open(struct rng *r, uint64_t seed, enum rng_purpose purpose, uint64_t a, uint64_t b, uint64_t c)
{
    const uint64_t name[] = {seed, (uint64_t)purpose, a, b, c};
    const size_t n = sizeof name / sizeof name[0];
    uint64_t key = name_hash(1, name, n), low = name_hash(2, name, n), high = name_hash(3, name, n);
    r->key[0] = (uint32_t)key;
    r->key[1] = (uint32_t)(key >> 32);
    r->counter[0] = 0;
    r->counter[1] = (uint32_t)low;
    r->counter[2] = (uint32_t)(low >> 32);
    r->counter[3] = (uint32_t)high;
    r->used = 4;
}

uint32_t rng_u32(struct rng *r)
{
    if (r->used == 4) {
        philox4x32_10(r->counter, r->key, r->block);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

/* Multiply and reject (Lemire, "Fast random integer generation in an interval", 2019). */
uint32_t rng_below(struct rng *r, uint32_t n)
{
    ASSERT(n > 0);
    uint64_t product = (uint64_t)rng_u32(r) * n;
    if ((uint32_t)product < n) {
        uint32_t biased = -n % n; /* 2^32 mod n: so many low words would favour some results */
        while ((uint32_t)product < biased)
            product = (uint64_t)rng_u32(r) * n;
    }
    return (uint32_t)(product >> 32);
}

float rng_uniform(struct rng *r)
{
    return (float)(rng_u32(r) >> 8) * 0x1p-24f;
}

double rng_normal(struct rng *r)
{
    double u = (rng_u32(r) + 1.0) * 0x1p-32; /* (0, 1]: the logarithm is finite */
    double angle = 2 * M_PI * 0x1p-32 * rng_u32(r);
    return sqrt(-2 * log(u)) * cos(angle);
}

void rng_shuffle(struct rng *r, uint32_t *items, size_t n)
{
    ASSERT(n <= UINT32_MAX);
    for (size_t i = n; i > 1; i--) {
        size_t j = rng_below(r, (uint32_t)i);
        uint32_t kept = items[i - 1];
        items[i - 1] = items[j];
        items[j] = kept;
    }
}
