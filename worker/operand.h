/* A published mixture as operands of the product that gives logits, [log_const + price; [-1/2 1/v | mu/v]^T] for
 * Gaussians with diagonal covariances: packed for tiles (worker/nn/tiles.h), SIEVE_TILE components each, so that a
 * tile stays in the second-level cache while a block's rows go by, and for a sieve where there is one. A new version
 * changes what moved. */
#ifndef DECANT_WORKER_OPERAND_H
#define DECANT_WORKER_OPERAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proto/mixture_wire.h"
#include "worker/sieve.h"
#include "worker/whitened.h"

struct operand {
    uint32_t rows_max, K, D;
    enum covariance covariance;
    uint32_t
        width; /* of the product that gives logits: 2D, [h^2 | h]; von Mises-Fisher D, h; tied D, W h; full 0, none */
    const struct mixture_view *view; /* in use; it is read again */
    bool loaded;                     /* a mixture is in use: */
    uint64_t version;
    double beta;
    float *prototypes;         /* (K,D) rows of unit length */
    struct whitened *whitened; /* gives logits when width is 0 */
    struct sieve *sieve;       /* NULL where there is none */
    float *component_rows;     /* (K,width) beside a sieve, if they are few; else NULL */
    float *logit_operand;      /* tiles, logit_size apart; one, packed when it is wanted, beside a sieve without rows */
    size_t logit_size;
    float *rows;                /* (tile,width) one tile's [-1/2 1/v | mu/v] before it is packed; or mu/v alone */
    float *bias;                /* (tile) its log_const + price */
    float *shared_operand;      /* W^T, packed, when components share it */
    double log_det;             /* of that W */
    float *squares;             /* (rows_max,2D) [h^2 | h]; tied: (rows_max,D) W h; else nothing */
    uint32_t *square_at, *h_at; /* (rows_max) where a row of squares, of h starts */
};

/* For blocks of at most rows_max rows. 0 or ERR_MEMORY. */
int operand_new(uint32_t rows_max, uint32_t K, uint32_t D, enum covariance c, struct operand **out);
void operand_free(struct operand **s);
/* Cheap when the version is the one already held. v must stay until another takes its place. */
void operand_use(struct operand *s, const struct mixture_view *v);

/* What the product takes of a block's rows h (rows,D), and where they start. Stays until the next call. */
const float *operand_input(struct operand *s, const float *h, size_t rows, uint32_t **at);
/* Logits, with log_const and price, of rows of it that start at in[i]: K floats from logits + out[i] on. Nothing when
 * width is 0. */
void operand_logits(struct operand *s, const float *input, uint32_t *in, size_t rows, float *logits, uint32_t *out);
/* What logits of these rows lack, the same for all components of a row, and so of the log-likelihood only, summed:
 * tied, log det W - 1/2 |W h|^2. */
double operand_shift(const struct operand *s, size_t rows);

/* The row (width) of component k, in `scratch` (width) when none is kept; and what its logits begin with. */
const float *operand_make_row(const struct operand *s, size_t k, float *scratch);
static inline const float *operand_row(const struct operand *s, size_t k, float *scratch)
{
    return s->component_rows ? s->component_rows + k * s->width : operand_make_row(s, k, scratch);
}

static inline float operand_bias(const struct operand *s, size_t k)
{
    return s->view->log_const[k] + s->view->price[k];
}

#endif
