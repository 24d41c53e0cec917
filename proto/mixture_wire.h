/* A published mixture version, as everyone but its owner sees it, and its wire form.
 *   full   mean F32 (K,D), variance F32 (K,D) or (K) (proto/covariance.h), weight F32 (K), log_const F32 (K)
 *   delta  rows U32 (R) ascending, and the same tensors with R rows; applies to version `seq` only (seq = step - 1)
 * and with both, when components have prices, price F32 (K): of all components, since every version moves them all.
 * scalars: beta (annealing exponent of this version), loglik. MIXTURE.step is the version: it holds all statistics of
 * steps < version.
 *
 * log_const_k = log pi_k - 1/2 sum_d (log v_kd + mu_kd^2 / v_kd), without the 2 pi constant, so that
 * log pi_k N(h|mu_k,v_k) + D/2 log 2pi = log_const_k - 1/2 sum_d h_d^2/v_kd + sum_d h_d mu_kd/v_kd.
 * Von Mises-Fisher: |mu_k| = 1, variance is 1/kappa_k, log_const_k = log pi_k + log C_D(kappa_k), and
 * log pi_k p(h|mu_k,kappa_k) = log_const_k + sum_d h_d mu_kd/v_k.
 * Full covariance: `whitening` F32 (K,D*D) in the place of variance, log_const_k = log pi_k + log det W_k, and
 * log pi_k N(h|mu_k,V_k) + D/2 log 2pi = log_const_k - 1/2 |W_k (h - mu_k)|^2.
 * Tied: one `whitening` F32 (D,D), whole in a delta too, log_const_k = log pi_k, and
 * log pi_k N(h|mu_k,V) + D/2 log 2pi = log_const_k + log det W - 1/2 |W (h - mu_k)|^2.
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
    float *variance;  /* (K,covariance_width) variances or whitening, or (covariance_shared_width) */
    float *weight;    /* (K) pi_k as the E-step uses it */
    float *log_const; /* (K) */
    bool priced;      /* whether there are prices */
    float *price;     /* (K) b_k, nats; zeros when not priced */
    uint64_t *moved;  /* (K) version that last sent the row, all but its price; NULL where nobody keeps it */
};

int mixture_view_new(uint32_t K, uint32_t D, enum covariance c, struct mixture_view **out);
void mixture_view_free(struct mixture_view **v);
int mixture_view_copy(struct mixture_view *to, const struct mixture_view *from); /* same K, D, covariance */
int mixture_view_keep_moved(struct mixture_view *v); /* from now on, of a new view; 0 or ERR_MEMORY */
/* mixture_view_copy where `to` holds an earlier version of the same line of versions as `from`, and both keep `moved`:
 * only rows that moved since are copied. */
void mixture_view_follow(struct mixture_view *to, const struct mixture_view *from);
/* rows == NULL: full. Otherwise a delta of R rows against version - 1. Copies; fills step, seq, encoding, tensors,
 * beta. */
int mixture_encode(const struct mixture_view *v, const uint32_t *rows, uint32_t R, struct msg *m);
/* Checks everything (finite, variance > 0), then updates v in place. ERR_STATE when a delta's base is not v->version
 * (ask for a snapshot), ERR_FORMAT with *why otherwise; v unchanged on failure. */
int mixture_apply(struct mixture_view *v, const struct msg *m, enum reason *why);

#endif
