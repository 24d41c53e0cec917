/* The fingerprint of the prototype server's arithmetic: a hash over a small fixed run of the mixture's update. A server
 * that rounds otherwise than the one before it would give the run other bytes. */
#ifndef DECANT_SERVER_PROTOTYPE_PROTOTYPE_NUMERICS_H
#define DECANT_SERVER_PROTOTYPE_PROTOTYPE_NUMERICS_H

#include <stdint.h>
#include "proto/choices.h"

/* 1 to FINGERPRINT_MASK (proto/provenance.h), for a mixture of that form: LAPACK counts where it is used, with full
 * or tied covariances. Takes less than a millisecond. 0 or ERR_MEMORY. */
int prototype_numerics(enum covariance c, uint64_t *out);

#endif
