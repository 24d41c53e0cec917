/* EM statistics of a slot (or of an aligned subtree of slots): their in-memory form, the three exact wire encodings,
 * and the sum of two. Every encoding of the same slot decodes to the same floats, because one function
 * (stats_accumulate) multiplies, whether on the worker or on the server. Components without mass have no row.
 *
 *   dense     n F32 (K), s1 F32 (K,D), s2 F32 (K,D)
 *   rows      index U32 (R) ascending, n F32 (R), s1 F32 (R,D), s2 F32 (R,D)
 *   factored  h F32 (N,D), start U32 (N+1), index U32 (Z), gamma F32 (Z):
 *             row i has components index[start[i]..start[i+1])
 *
 * (von Mises-Fisher components have no s2, full covariances one of (K,D*D) or (R,D*D), a tied one (D,D) for
 * all embeddings: proto/covariance.h)
 *
 * and with each of them, when there are any,
 *
 *   novel F32 (V,D), novel_distance F32 (V): the slot's embeddings farthest from every prototype, farthest first
 *   assigned U32 (N): the component of largest responsibility of each embedding
 *   sample F32 (S,D): the first S embeddings, of the first steps of a run with mixture.init = kmeans++
 *
 * Scalars: count (embeddings), loglik (sum over embeddings of log p(h) at beta = 1, with the 2 pi constant), dropped
 * (mass of dropped responsibilities). */
#ifndef DECANT_PROTO_STATS_H
#define DECANT_PROTO_STATS_H

#include <stddef.h>
#include <stdint.h>
#include "proto/choices.h"
#include "proto/msg.h"

enum stats_encoding { STATS_DENSE = 1, STATS_ROWS = 2, STATS_FACTORED = 3 };

/* Sparse responsibilities of N embeddings (CSR), each row's gammas summing to 1. */
struct responsibilities {
    uint32_t N;
    const uint32_t *start; /* (N+1) */
    const uint32_t *index; /* (start[N]) ascending within a row, < K */
    const float *gamma;    /* (start[N]) */
};

struct stats_rows {
    uint32_t K, D;
    uint32_t squares;      /* floats of a row of s2: covariance_square_width */
    uint32_t R;            /* rows, ascending unique index */
    uint32_t *index;       /* (R) */
    float *n;              /* (R)   sum of gamma */
    float *s1;             /* (R,D) sum of gamma h */
    float *s2;             /* (R,squares) sum of gamma h^2, or of gamma h h^T */
    uint32_t shared;       /* covariance_shared_width */
    float *moment;         /* (shared) sum of h h^T, each h weighing what its gammas add up to; NULL without */
    uint32_t V;            /* novelty candidates, ordered by (slot, rank in slot) after sums */
    float *novel;          /* (V,D) */
    float *novel_distance; /* (V) 1 - max_k h.c_k */
    uint32_t A;
    uint32_t *assigned; /* (A) */
    uint32_t S;         /* embeddings themselves, in the order of (slot, row) after sums */
    float *sample;      /* (S,D) */
    double count, loglik, dropped;
};

void stats_rows_init(struct stats_rows *s);
void stats_rows_fini(struct stats_rows *s);
/* n_k = sum_i gamma_ik, s1_k, s2_k from h (N,D): fills R, index, n, s1, s2. Additions run in ascending i for each k. */
int stats_accumulate(const float *h, const struct responsibilities *g, uint32_t K, uint32_t D, enum covariance c,
                     struct stats_rows *out);
/* a += b where b follows a in slot order: rows merged by index, candidates and assignments concatenated. Consumes b. */
int stats_rows_add(struct stats_rows *a, struct stats_rows *b);

struct stats_extra { /* what goes with every encoding; arrays are copied */
    uint32_t V;
    const float *novel, *novel_distance;
    const uint32_t *assigned; /* (N), or NULL: the tensor is left out */
    double loglik, dropped;
    uint32_t S; /* how many of the embeddings, from the first on, are sent themselves */
};
/* Fills m->encoding, tensors and scalars with the smallest of the three encodings. */
int stats_encode(const float *h, const struct responsibilities *g, uint32_t K, uint32_t D, enum covariance c,
                 const struct stats_extra *extra, struct msg *m);
/* The same with the encoding given (tests, and summed subtrees through stats_rows). */
int stats_encode_as(enum stats_encoding encoding, const float *h, const struct responsibilities *g, uint32_t K,
                    uint32_t D, enum covariance c, const struct stats_extra *extra, struct msg *m);
/* Decodes and checks everything: shapes against K and D, indices in range and ascending, gammas in [0,1] with rows
 * summing to 1 and n to count within 1e-3, n > 0, finite, embeddings and candidates of unit length within 1 %, sums
 * that those of unit vectors can be (s1² <= n s2 by element, the s2 of a component adding up to n; without s2, |s1|
 * <= n; matrices: symmetric, s2_ij² <= s2_ii s2_jj), 1 <= N <= rows_max, V <= min(N, 4096), S <= N. 0, ERR_MEMORY, or
 * ERR_FORMAT with *why and, for the sender, *detail; out is empty then. */
int stats_decode(const struct msg *m, uint32_t K, uint32_t D, enum covariance c, uint32_t rows_max,
                 struct stats_rows *out, enum reason *why, struct error *detail);

#endif
