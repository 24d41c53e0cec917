/* A power law for the use of components: of the one in rank r the share
 *
 *   p_r = (r + 1)^-power / sum_q (q + 1)^-power        r = 0..K-1
 *
 * of the embeddings is wanted. Rank is the order of usage, largest first, equal usages by index. So what is wanted is
 * a profile, not that component 0 be the largest wherever it happens to lie: of all ways to hand out the shares this
 * one asks for the least change, and a component that is re-seeded, with an even share for its usage, takes its place
 * in the order anew. Ranks are a function of usage alone: a resumed run has the same ones. */
#ifndef DECANT_SERVER_PROTOTYPE_RANKS_H
#define DECANT_SERVER_PROTOTYPE_RANKS_H

#include <stdint.h>

struct ranks;

int ranks_new(uint32_t K, double power, struct ranks **out); /* power > 0; 0 or ERR_MEMORY */
void ranks_free(struct ranks **out);
/* The share that is wanted of the last rank. */
double ranks_least(const struct ranks *r);
/* (K) the share that is wanted of each component. usage (K) >= 0. Of r, until the next call. */
const double *ranks_wanted(struct ranks *r, const double *usage);

#endif
