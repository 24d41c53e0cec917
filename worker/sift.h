/* What passes the sieve for the rows of a block, and its exact logits. A row for which too much passes gets all
 * logits, as without a sieve; and after a block of which that is most, some go by without. What is held back is
 * further than `cutoff` nats, over beta, below the row's largest logit; what passes has the logits that the tiles
 * would give, to the bit. */
#ifndef DECANT_WORKER_SIFT_H
#define DECANT_WORKER_SIFT_H

#include "worker/operand.h"

struct sifted {
    uint32_t first, count; /* of the row's pairs in `component` and `logits`; count 0: all components */
};

struct sift {
    struct operand *operand; /* which has a sieve; borrowed */
    float cutoff;
    uint32_t max;                        /* pairs */
    uint32_t *component;                 /* (max, and SIEVE_ROOM) of each pair, row by row, ascending, */
    float *logits;                       /* (max) and the logit */
    uint32_t *duo_row;                   /* (max / DUO) which row */
    struct sifted *of;                   /* (rows) where each row's are */
    uint32_t *whole_at, *whole_logit_at; /* (rows) rows that are computed as a whole */
    float *rows;                         /* (PAIRS,width) of components, when none are kept */
    uint32_t rest;                       /* blocks for which the sieve is not asked */
};

int sift_new(struct operand *o, uint32_t rows, float cutoff, struct sift **out); /* 0 or ERR_MEMORY */
void sift_free(struct sift **s);
/* Whether the next block is to go by without; counts it. */
bool sift_rests(struct sift *s);
/* Fills s->of of the block's rows, and logits + logit_at[i] (K) of those that are computed as a whole; of the others
 * it is scratch. input and at: as operand_input gives them. */
void sift_rows(struct sift *s, const float *input, uint32_t *at, uint32_t rows, float *logits, uint32_t *logit_at);

#endif
