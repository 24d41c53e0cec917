/* k-means++ on a run's first N embeddings (mixture.init = kmeans++): Arthur and Vassilvitskii, "k-means++: the
 * advantages of careful seeding", SODA 2007. The first seed is one of them, each alike; each further one is drawn
 * with a probability in proportion to its squared distance from the nearest seed there is.
 *
 * The embeddings come with the first steps' statistics, in the order of (step, slot, row), so what is here depends on
 * the steps folded and on nothing else. Seed k is drawn from the stream (seed, RNG_SEEDING, k). A seed costs N D
 * multiply-adds; so that a version is never long in coming, it takes `rounds` of them at most, and the next ones are
 * left to the next versions.
 *
 *   seeding_new(&options, &s)
 *   each step:  seeding_gather(s, rows, n);  if (seeding_choose(s)) use s->seeds (chosen), rows of s->rows
 * */
#ifndef DECANT_SERVER_PROTOTYPE_SEEDING_H
#define DECANT_SERVER_PROTOTYPE_SEEDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct seeding_options {
    uint32_t N;      /* embeddings; 0: no seeding */
    uint32_t rounds; /* seeds that a step chooses at most, >= 1 */
    uint64_t seed;   /* of the run */
};

struct seeding {
    struct seeding_options options;
    uint32_t K, D;
    uint32_t gathered; /* rows that have come, of options.N */
    uint32_t chosen;   /* seeds so far */
    float *rows;       /* (N,D), unit length */
    float *distance;   /* (N) squared, of each row from its nearest seed; FLT_MAX before the first */
    uint32_t *seeds;   /* (K) rows, in the order in which they were chosen */
};

int seeding_new(const struct seeding_options *o, uint32_t K, uint32_t D, struct seeding **out); /* 0 or ERR_MEMORY */
void seeding_free(struct seeding **s);
/* The state of another one of the same options, K and D. */
void seeding_copy(struct seeding *to, const struct seeding *from);
/* The step's rows (n,D), n being no more than are missing. */
void seeding_gather(struct seeding *s, const float *rows, uint32_t n);
/* Chooses the next seeds once all rows are there. True when there are K of them, or as many as different rows. */
bool seeding_choose(struct seeding *s);

#endif
