/* Prices of a balanced E-step: what a component that too few embeddings choose is made more attractive by, and one that
 * too many choose less. With usage u_k (the average share of the embeddings, mixture.usage_momentum) and a share p_k
 * wanted of each, 1/K or a power law's (ranks.h),
 *
 *   b_k <- b_k + a clip(log p_k - log u_k, -c, c)        then all shifted so that the mean of exp(b) is 1
 *
 * as bidders' prices move in an auction (Bertsekas, "The auction algorithm", 1988) and as dual variables of an optimal
 * transport with those marginals do. The shift changes no responsibility; it makes pi_k exp(b_k) mixing weights when pi
 * is uniform, so that the log-likelihood stays one, and keeps prices from drifting away together. */
#ifndef DECANT_SERVER_PROTOTYPE_PRICES_H
#define DECANT_SERVER_PROTOTYPE_PRICES_H

#include <stdint.h>

/* One step of price (K), nats. usage (K) >= 0; wanted (K) > 0, the p_k, or NULL: 1/K each; a > 0, c > 0. */
void prices_move(double *price, const double *usage, const double *wanted, uint32_t K, double a, double c);
/* Largest minus smallest price. */
double prices_spread(const double *price, uint32_t K);

#endif
