/* What a path probably is when no reader finds images at it, and what to do: near names of IDX files, pickled CIFAR, a
 * folder around the real one, archives and formats of other programs. Names and first bytes only; nothing is unpacked.
 */
#ifndef DECANT_WORKER_DATA_NEAR_MISS_H
#define DECANT_WORKER_DATA_NEAR_MISS_H

#include <stdbool.h>

enum { NEAR_MISS_MAX = 480 }; /* bytes of an explanation; fits into an error's text */

/* false: nothing is known. */
bool near_miss_explain(const char *path, char text[NEAR_MISS_MAX]);

#endif
