/* A published mixture version, as everyone but its owner sees it, and its wire form.
 *   full   mean F32 (K,D), variance F32 (K,D) or (K) when spherical, weight F32 (K), log_const F32 (K)
 *   delta  rows U32 (R) ascending, and the same tensors with R rows; applies to version `seq` only (seq = step - 1)
 * and with both, when components have prices, price F32 (K): of all components, since every version moves them all.
 * scalars: beta (annealing exponent of this version), loglik. MIXTURE.step is the version: it holds all statistics of
 * steps < version.
 *
 * log_const_k = log pi_k - 1/2 sum_d (log v_kd + mu_kd^2 / v_kd), without the 2 pi constant, so that
 * log pi_k N(h|mu_k,v_k) + D/2 log 2pi = log_const_k - 1/2 sum_d h_d^2/v_kd + sum_d h_d mu_kd/v_kd.
 * The E-step adds price_k to that: exp(price_k) is a factor on pi_k, and the mean of exp(price) is 1. */
#ifndef DECANT_PROTO_MIXTURE_WIRE_H
#define DECANT_PROTO_MIXTURE_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include "proto/choices.h"
#include "proto/msg.h"

enum mixture_encoding { MIXTURE_FULL = 1, MIXTURE_DELTA = 2 };

struct mixture_view {
    uint32_t K, D;
    enum covariance covariance;
    uint64_t version;
    double beta;
    float *mean;      /* (K,D) */
    float *variance;  /* (K,D), or (K) when spherical */
    float *weight;    /* (K) pi_k as the E-step uses it */
    float *log_const; /* (K) */
    bool priced;      /* whether there are prices */
    float *price;     /* (K) b_k, nats; zeros when not priced */
};

int mixture_view_new(uint32_t K, uint32_t D, enum covariance c, struct mixture_view **out);
void mixture_view_free(struct mixture_view **v);
int mixture_view_copy(struct mixture_view *to, const struct mixture_view *from); /* same K, D, covariance */
/* rows == NULL: full. Otherwise a delta of R rows against version - 1. Copies; fills step, seq, encoding, tensors,
 * beta. */
int mixture_encode(const struct mixture_view *v, const uint32_t *rows, uint32_t R, struct msg *m);
/* Checks everything (finite, variance > 0), then updates v in place. ERR_STATE when a delta's base is not v->version
 * (ask for a snapshot), ERR_FORMAT with *why otherwise; v unchanged on failure. */
int mixture_apply(struct mixture_view *v, const struct msg *m, enum reason *why);

#endif
