/* What the writer and the reader of safetensors files agree on. */
#ifndef DECANT_COMMON_SAFETENSORS_INTERNAL_H
#define DECANT_COMMON_SAFETENSORS_INTERNAL_H

#include "common/files.h"
#include "common/safetensors.h"

enum {
    SAFETENSORS_PREFIX = 8,            /* bytes of the header's length */
    SAFETENSORS_HEADER_MAX = 16 << 20, /* bytes of JSON; about 100 000 tensors */
    SAFETENSORS_CHECKSUM_DIGITS = 16,
};

/* shape times dtype in bytes; ERR_RANGE for an unknown dtype, too high a rank or an overflow. */
int safetensors_tensor_size(enum dtype dtype, uint32_t rank, const uint64_t *shape, size_t *size);

/* The checksum of a file in pieces, in the order of its bytes, as 16 lower-case hex digits and a NUL. */
void safetensors_checksum(const struct file_part *parts, size_t n, char out[SAFETENSORS_CHECKSUM_DIGITS + 1]);

#endif
