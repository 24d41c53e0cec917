/* Where two arrays of the same type and shape part: the first differing element, how many differ, and by how much in
 * units in the last place. Elements are compared by their bytes, so that a NaN equals the same NaN and 0 is not -0. */
#ifndef DECANT_CLI_TENSOR_COMPARE_H
#define DECANT_CLI_TENSOR_COMPARE_H

#include <stdint.h>
#include "common/safetensors.h"

enum { ELEMENT_TEXT_MAX = 32 };

struct tensor_difference {
    uint64_t differing, elements;                  /* how many differ, of how many */
    uint64_t first;                                /* flat index of the first that differs */
    uint64_t index[TENSOR_RANK_MAX];               /* the same by dimension */
    char a[ELEMENT_TEXT_MAX], b[ELEMENT_TEXT_MAX]; /* its two values, as many digits as tell them apart */
    uint64_t ulp, ulp_max; /* steps between representable numbers: of the first, and the largest */
};

/* a and b: same dtype and shape. Without a difference only `elements` is not 0. */
void tensor_compare(const struct tensor_view *a, const struct tensor_view *b, struct tensor_difference *out);
/* The value of one element. */
void tensor_element_text(const struct tensor_view *t, uint64_t flat, char out[ELEMENT_TEXT_MAX]);

#endif
