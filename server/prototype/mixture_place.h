/* Fresh components in the place of what is there (1): at the start, when one is re-seeded, when k-means++ has its
 * seeds. Statistics only: the published rows follow from them (mixture_restore, or the end of mixture_em_step). */
#ifndef DECANT_SERVER_PROTOTYPE_MIXTURE_PLACE_H
#define DECANT_SERVER_PROTOTYPE_MIXTURE_PLACE_H

#include "server/prototype/mixture.h"

/* Component k as a fresh one around mu (D), of whatever length: N = n0, S1 = n0 mu, S2 = n0 (mu^2 + s0), s0 = 1/D,
 * usage 1/K, price 0. von Mises-Fisher: S1 is shorter, so that 1/kappa = 1/D. A scatter that is shared is not
 * touched. */
void mixture_place(struct mixture *m, uint32_t k, const double *mu);
/* All components are fresh ones: their scatter, where it is shared. */
void mixture_place_shared(struct mixture *m);
/* The same around an embedding h (D), in `version`; mixture_move takes the former component's share of a shared scatter
 * away. */
void mixture_place_at(struct mixture *m, uint32_t k, const float *h, uint32_t version);
void mixture_move(struct mixture *m, uint32_t k, const float *h, uint32_t version);
double mixture_total_mass(const struct mixture *m); /* sum_k N_k */

#endif
