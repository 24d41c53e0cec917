/* Responsibilities of rows that have a few logits each, as a sieve leaves most: one vector of AVX-512, with the same
 * bits as the general way (worker/softmax.h). Listing, exponentials and sums of one row wait for each other; so a
 * block's rows go through each of them together, and only the lists that come out are written row by row. */
#ifndef DECANT_WORKER_SHORT_ROWS_H
#define DECANT_WORKER_SHORT_ROWS_H

#include <stdbool.h>
#include <stdint.h>
#include "worker/sift.h"

enum { SHORT = 16 };

struct short_row {
    uint32_t count;    /* logits that count, whose exponentials and components are listed */
    uint32_t assigned; /* of the largest logit; UINT32_MAX should there be none */
    float max;         /* the largest, which is subtracted from all */
    double total;      /* sum of their exponentials */
};

struct short_rows {
    uint32_t rows, count;
    struct short_row *of; /* (rows) those that were taken, one after the other */
    float *value;         /* (rows,SHORT) exponentials, then zeros */
    uint32_t *component;  /* (rows,SHORT) ascending */
};

/* Whether rows of that many logits go this way: with AVX-512, and where everything that is as large as drop is kept,
 * with a drop for which a sum of them is exact in double. */
bool short_rows_serve(float drop, uint32_t top, double beta);

int short_rows_new(uint32_t rows, struct short_rows **out); /* 0 or ERR_MEMORY */
void short_rows_free(struct short_rows **s);
/* Takes those of a block's rows that have up to SHORT pairs, in order: logits that are further below a row's largest
 * than cutoff count as none. */
void short_rows_take(struct short_rows *s, const struct sift *sift, uint32_t rows, float cutoff);
/* Writes the responsibilities of row j of those that were taken that are at least drop of the row, divided by their
 * sum, and a vector's worth of anything after them. Returns how many; adds the share that was dropped to *dropped. */
uint32_t short_row_keep(const struct short_rows *s, uint32_t j, double drop, uint32_t *index, float *gamma,
                        double *dropped);

#endif
