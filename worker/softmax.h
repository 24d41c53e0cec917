/* Responsibilities of an embedding from its logits: gamma_k = softmax_k(beta l_k), of which those under `drop` are
 * removed, and of the rest the `top` largest are kept and divided by their sum. A logit that is further below the
 * row's largest than `cutoff`, times beta, counts as none. */
#ifndef DECANT_WORKER_SOFTMAX_H
#define DECANT_WORKER_SOFTMAX_H

#include <stddef.h>
#include <stdint.h>
#include "proto/stats.h"
#include "worker/short_rows.h"

struct softmax_options {
    uint32_t top; /* kept of a row at most; 0 keeps all */
    float drop;   /* in [0, 0.5] */
};

struct kept {
    uint32_t index;
    float value;
};

struct softmax {
    struct softmax_options options;
    uint32_t K;
    float cutoff; /* nats */
    double beta;
    double evidence; /* product of the sums of exponentials whose logarithm is still to be taken */
    size_t nonzero_max;
    uint32_t *start, *index; /* (rows_max+1), (nonzero_max) results: of row i from start[i] on, */
    float *gamma;            /* (nonzero_max) */
    uint32_t *assigned;      /* (rows_max) and each row's largest */
    uint32_t *near;          /* (K) scratch: a row's components that matter, */
    uint32_t *found;         /* (K) */
    float *near_logit;       /* (K and a span) their logits; like the next, filled up to whole spans */
    float *row;              /* (K and a span) and exp(beta l), or exp(l) */
    struct kept *top;        /* (top) heap of one row's largest */
    struct short_rows *prepared;
    uint32_t next; /* of them */
};

/* block: rows that are prepared together at most. 0 or ERR_MEMORY. */
int softmax_new(uint32_t rows_max, uint32_t block, uint32_t K, struct softmax_options o, struct softmax **out);
void softmax_free(struct softmax **s);
/* Rows from 0 on follow. */
void softmax_begin(struct softmax *s, double beta);
/* Does in advance what it can for the block's rows that have few logits: they must be what softmax_row sees next with
 * a list. */
void softmax_prepare(struct softmax *s, const struct sift *sift, uint32_t rows);
/* Row i, the one after the last, of n logits: of the components that are listed, ascending, or of all where that is
 * NULL. Adds to extra->loglik and extra->dropped. The largest term is exp(0) = 1, so that nothing overflows. */
void softmax_row(struct softmax *s, const float *logits, uint32_t n, const uint32_t *component, uint32_t i,
                 struct stats_extra *extra);
/* After the last row: adds what extra->loglik still lacks. */
void softmax_end(struct softmax *s, struct stats_extra *extra);

#endif
