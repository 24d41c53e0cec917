/* The von Mises-Fisher distribution on the unit sphere of D dimensions: density C_D(kappa) exp(kappa mu.h), |mu| = 1,
 *
 *   C_D(kappa) = kappa^(D/2-1) / ((2 pi)^(D/2) I_{D/2-1}(kappa))
 *
 * with respect to the sphere's surface (Mardia and Jupp, "Directional Statistics", 2000). */
#ifndef DECANT_SERVER_PROTOTYPE_VMF_H
#define DECANT_SERVER_PROTOTYPE_VMF_H

#include <stdint.h>

/* log C_D(kappa), D >= 2, kappa in [1e-3, 1e9]. Off by at most 1e-9 + 1e-14 of its size (tests/golden/vmf.json). */
double vmf_log_normaliser(uint32_t D, double kappa);
/* kappa of a mean resultant length R in [0, 1): R (D - R^2)/(1 - R^2) (Banerjee et al., JMLR 6, 2005), which is
 * within a few percent of the maximum likelihood for D = 2 and far closer for large D. Infinite for R >= 1. */
double vmf_concentration(uint32_t D, double R);
/* The R of which kappa is the concentration, kappa > 0; inverse of the above to 1e-12. */
double vmf_resultant(uint32_t D, double kappa);

#endif
