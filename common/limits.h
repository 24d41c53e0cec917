/* What the system allows this process: looked at before anything is opened, because libraries abort or wait for ever
 * when they run into a limit at the wrong moment. */
#ifndef DECANT_COMMON_LIMITS_H
#define DECANT_COMMON_LIMITS_H

#include <stddef.h>
#include <stdint.h>
#include "common/error.h"

/* Raises the soft limits of descriptors to what is allowed, at most DESCRIPTORS_MAX. ERR_CONFIG when that is less
 * than `descriptors`, or when `address_space` bytes cannot be had (ulimit -v), or `data` bytes of memory that can be
 * written to and is no file's (ulimit -d): the text says which limit, what it is, and what is needed. */
int limits_prepare(size_t descriptors, uint64_t address_space, uint64_t data, struct error *e);
size_t limits_descriptors(void); /* the soft limit */

enum { DESCRIPTORS_MAX = 65536 /* more would only cost those who walk through all of them */ };

#endif
