/* The fingerprint of the prototype server's arithmetic: a hash over a small fixed run of the mixture's update. A server
 * that rounds otherwise than the one before it would give the run other bytes. */
#ifndef DECANT_SERVER_PROTOTYPE_PROTOTYPE_NUMERICS_H
#define DECANT_SERVER_PROTOTYPE_PROTOTYPE_NUMERICS_H

#include <stdint.h>

/* 1 to FINGERPRINT_MASK (proto/provenance.h). Takes less than a millisecond. 0 or ERR_MEMORY. */
int prototype_numerics(uint64_t *out);

#endif
