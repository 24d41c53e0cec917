/* Elements as bits; floats are mapped to integers that count representable numbers, so that a subtraction counts the
 * steps between two of them, across zero too. */
#include "cli/tensor_compare.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t element_bits(const struct tensor_view *t, uint64_t i)
{
    size_t size = dtype_size(t->dtype);
    uint64_t bits = 0;
    memcpy(&bits, (const uint8_t *)t->data + i * size, size); /* little-endian, like the file */
    return bits;
}

/* Position on the line of representable numbers; both zeros are at 0. */
static int64_t line_position(uint64_t bits, unsigned width)
{
    uint64_t sign = 1ULL << (width - 1);
    int64_t magnitude = (int64_t)(bits & (sign - 1));
    return bits & sign ? -magnitude : magnitude;
}

static uint64_t distance(const struct tensor_view *t, uint64_t a, uint64_t b)
{
    if (t->dtype == DTYPE_F32 || t->dtype == DTYPE_F64) {
        unsigned width = t->dtype == DTYPE_F32 ? 32 : 64;
        int64_t x = line_position(a, width), y = line_position(b, width);
        return x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x;
    }
    return a > b ? a - b : b - a;
}

void tensor_element_text(const struct tensor_view *t, uint64_t flat, char out[ELEMENT_TEXT_MAX])
{
    uint64_t bits = element_bits(t, flat);
    uint32_t low = (uint32_t)bits;
    float single;
    double number;
    memcpy(&single, &low, sizeof single);
    memcpy(&number, &bits, sizeof number);
    if (t->dtype == DTYPE_F32)
        snprintf(out, ELEMENT_TEXT_MAX, "%.9g", (double)single);
    else if (t->dtype == DTYPE_F64)
        snprintf(out, ELEMENT_TEXT_MAX, "%.17g", number);
    else
        snprintf(out, ELEMENT_TEXT_MAX, "%" PRIu64, bits);
}

static void set_first(const struct tensor_view *a, const struct tensor_view *b, uint64_t i,
                      struct tensor_difference *out)
{
    uint64_t rest = i;
    out->first = i;
    for (uint32_t d = a->rank; d-- > 0;) {
        out->index[d] = rest % a->shape[d];
        rest /= a->shape[d];
    }
    tensor_element_text(a, i, out->a);
    tensor_element_text(b, i, out->b);
    out->ulp = distance(a, element_bits(a, i), element_bits(b, i));
}

void tensor_compare(const struct tensor_view *a, const struct tensor_view *b, struct tensor_difference *out)
{
    memset(out, 0, sizeof *out);
    out->elements = a->size / dtype_size(a->dtype);
    if (memcmp(a->data, b->data, a->size) == 0)
        return;
    for (uint64_t i = 0; i < out->elements; i++) {
        uint64_t x = element_bits(a, i), y = element_bits(b, i);
        if (x == y)
            continue;
        if (out->differing++ == 0)
            set_first(a, b, i, out);
        uint64_t steps = distance(a, x, y);
        if (steps > out->ulp_max)
            out->ulp_max = steps;
    }
}
