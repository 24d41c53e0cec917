/* The fingerprint of the parameter server's arithmetic: a hash over a small fixed run of the optimisers, the
 * schedules and the reduction's addition. A server that rounds otherwise than the one before it would give the run
 * other bytes. */
#ifndef DECANT_SERVER_PARAMETER_PARAMETER_NUMERICS_H
#define DECANT_SERVER_PARAMETER_PARAMETER_NUMERICS_H

#include <stdint.h>

/* 1 to FINGERPRINT_MASK (proto/provenance.h). Takes less than a millisecond. 0 or ERR_MEMORY. */
int parameter_numerics(uint64_t *out);

#endif
