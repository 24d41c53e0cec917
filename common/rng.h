/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * A stream is named by (seed, purpose, a, b, c); every draw is a pure function of that name and its index, so nothing
 * depends on which worker or thread draws. */
#ifndef DECANT_COMMON_RNG_H
#define DECANT_COMMON_RNG_H

#include <stddef.h>
#include <stdint.h>

enum rng_purpose {
    RNG_INIT = 1,
    RNG_ORDER = 2,
    RNG_AUGMENT = 3,
    RNG_BLOCKS = 4,
    RNG_MIXTURE = 5,
    RNG_JITTER = 6,
    RNG_SEEDING = 7
};

struct rng {
    uint32_t key[2];
    uint32_t counter[4]; /* counter[0] is the block index; [1..3] hold the name */
    uint32_t block[4];   /* the current output block */
    unsigned used;       /* words of it already handed out, 4 = none left */
};

/* The raw bijection, for tests against the published vectors. */
void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* All bits of seed, purpose, a, b, c take part (the 64-bit values are mixed into key and counter words). A stream
 * repeats after 2^34 words. */
void rng_open(struct rng *r, uint64_t seed, enum rng_purpose purpose, uint64_t a, uint64_t b, uint64_t c);
uint32_t rng_u32(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);              /* uniform in [0, n), unbiased, n > 0 */
float rng_uniform(struct rng *r);                           /* [0, 1), 24 bits */
double rng_normal(struct rng *r);                           /* N(0,1), Box-Muller */
void rng_shuffle(struct rng *r, uint32_t *items, size_t n); /* Fisher-Yates */

/* Keyed permutation of [0, n): element i of the order of `epoch`. Feistel network with cycle walking: no table, so any
 * worker computes any element. n in [1, 2^32]. */
uint64_t permute(uint64_t seed, uint64_t epoch, uint64_t i, uint64_t n);

#endif
