/* Is the mixture collapsing? Figures about one version, computed from a snapshot as a pure function, so that any thread
 * may do it: O(K^2 D) time, and never in the way of an M-step. */
#ifndef DECANT_SERVER_PROTOTYPE_DIAGNOSTICS_H
#define DECANT_SERVER_PROTOTYPE_DIAGNOSTICS_H

#include <stdbool.h>
#include <stdint.h>
#include "server/prototype/mixture.h"

enum { DIAGNOSTICS_EPS = 4 };
extern const double diagnostics_eps[DIAGNOSTICS_EPS];           /* 0.025, 0.1, 0.25, 0.5 */
extern const char *const diagnostics_eps_name[DIAGNOSTICS_EPS]; /* "unique_0025" ... */

/* What is needed of a mixture, copied. */
struct diagnostics_input {
    uint64_t version;
    uint32_t K, D;
    float *prototypes;             /* (K,D) mu_k/|mu_k| */
    double *usage;                 /* (K) */
    double active;                 /* percent */
    uint32_t *held;                /* (K) 1 + the updated_step of the row that prototypes has; 0: none */
    uint32_t at;                   /* the row that the next copying begins with */
    uint64_t copied;               /* rows since the copying began */
    bool (*stop)(const void *arg); /* asked during a pass, many times a second; NULL: it runs to its end */
    const void *stop_arg;
};

struct diagnostics {
    uint64_t version;
    uint32_t K;
    double unique[DIAGNOSTICS_EPS]; /* percent of K, greedy cover in index order */
    double perplexity;              /* of usage, 1..K */
    double effective_rank;          /* of the prototypes' covariance, 1..D */
    double active;                  /* percent of K */
    uint32_t *nearest;              /* (K) the other prototype of largest cosine */
    float *cosine;                  /* (K) that cosine */
};

int diagnostics_input_init(struct diagnostics_input *in, const struct mixture *m); /* holds nothing; 0 or ERR_MEMORY */
void diagnostics_input_fini(struct diagnostics_input *in);
/* Copies rows that differ from m's, at most rows_max, so that a large mixture is copied in pieces between its steps.
 * True when none is left to copy: from then to the next call `in` is of m's version. Also when 3 K rows have been
 * copied: then more rows move than pieces can follow, and those that still differ are as they were at most K /
 * rows_max pieces ago. window: versions over which a component counts as active. */
bool diagnostics_input_follow(struct diagnostics_input *in, const struct mixture *m, uint32_t window,
                              uint32_t rows_max);
void diagnostics_input_forget(struct diagnostics_input *in); /* m has gone back: what is held means nothing any more */

/* 0, ERR_MEMORY, or ERR_CLOSED when it was told to stop. */
int diagnostics_run(const struct diagnostics_input *in, struct diagnostics **out);
void diagnostics_free(struct diagnostics **out);

/* exp of the entropy of the normalised eigenvalues of the covariance of x (K,D), K >= 1 (Roy and Vetterli, "The
 * effective rank", EUSIPCO 2007); 1 when the rows do not differ. 0 or ERR_MEMORY. */
int effective_rank(const float *x, uint32_t K, uint32_t D, double *out);

#endif
