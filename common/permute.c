/* A keyed permutation of [0, n) without a table (declared in rng.h).
 *
 * A balanced Feistel network permutes [0, 4^w), the smallest such domain that holds n; whatever lands at n or above is
 * sent through again until it falls inside ("cycle walking", Black and Rogaway, CT-RSA 2002). Walking a cycle of a
 * bijection back into a subset is a bijection of that subset. The domain is under 4n, so that the mean number of passes
 * is under four. This shuffles well enough for training; it is no cipher. */
#include <stdint.h>
#include "common/error.h"
#include "common/rng.h"

enum { ROUNDS = 6 }; /* four suffice in theory for large domains; two more because ours can be tiny */

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDu; /* MurmurHash3's finaliser */
    x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53u;
    return x ^ (x >> 33);
}

/* Half the bits of the domain, at least one. */
static unsigned half_width(uint64_t n)
{
    unsigned w = 1;
    while (((uint64_t)1 << (2 * w)) < n)
        w++;
    return w;
}

static uint64_t feistel(uint64_t key, uint64_t i, unsigned w)
{
    uint64_t mask = ((uint64_t)1 << w) - 1, left = i >> w, right = i & mask;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t next = left ^ (mix(key + ((round << 32) | right)) & mask);
        left = right;
        right = next;
    }
    return left << w | right;
}

uint64_t permute(uint64_t seed, uint64_t epoch, uint64_t i, uint64_t n)
{
    ASSERT(n >= 1 && n <= (uint64_t)1 << 32 && i < n);
    unsigned w = half_width(n);
    uint64_t key = mix(mix(seed + 0x9E3779B97F4A7C15u) + epoch);
    do
        i = feistel(key, i, w);
    while (i >= n);
    return i;
}
