/* How many prototypes are distinct, and how many of them any image uses: the figures of prototype collapse. "Unique"
 * alone misleads, because prototypes that nothing ever touched are distinct too; so the active ones are counted beside.
 */
#ifndef DECANT_CLI_PROTOTYPE_SCORES_H
#define DECANT_CLI_PROTOTYPE_SCORES_H

#include <stdint.h>

enum { SCORE_EPS = 4, COVER_ROWS = 4096 };
extern const double score_eps[SCORE_EPS]; /* cosine distances 0.025, 0.1, 0.25, 0.5 */

struct prototype_scores {
    double unique[SCORE_EPS];          /* percent of K: greedy cover in index order */
    double active;                     /* percent of K: nearest to at least one embedding */
    double active_unique[SCORE_EPS];   /* percent of K: greedy cover of the active ones */
    double perplexity;                 /* of the assignment of embeddings to their nearest prototype, 1..K */
    uint32_t cover_rows;               /* embeddings looked at for feature_cover: the first COVER_ROWS, or all */
    uint32_t feature_cover[SCORE_EPS]; /* directions that these embeddings themselves have */
};

/* prototypes (K,D), rows of unit length; z (n,D) embeddings, n > 0, which are normalised in place; nearest (n) receives
 * the prototype nearest to each. 0 or ERR_MEMORY. */
int prototype_scores_of(const float *prototypes, uint32_t K, uint32_t D, float *z, uint32_t n, unsigned threads,
                        uint32_t *nearest, struct prototype_scores *out);

/* nearest (n): the prototype of the largest cosine, the lower of equals. z and prototypes have rows of unit length. 0
 * or ERR_MEMORY. */
int prototype_assign(const float *prototypes, uint32_t K, uint32_t D, const float *z, uint32_t n, unsigned threads,
                     uint32_t *nearest);

#endif
