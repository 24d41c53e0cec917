/* The checksum of a safetensors file keeps all damage from getting far; this puts the right one into a damaged file
 * that claims to have one. */
#ifndef DECANT_TESTS_FUZZ_CHECKSUM_H
#define DECANT_TESTS_FUZZ_CHECKSUM_H

#include <stdint.h>
#include <string.h>
#include "common/safetensors_internal.h"

static inline void checksum_repair(uint8_t *file, size_t size)
{
    static const char key[] = "\"checksum\":\"";
    uint8_t *at = memmem(file, size, key, sizeof key - 1);
    if (at == NULL || (size_t)(file + size - at) < sizeof key - 1 + SAFETENSORS_CHECKSUM_DIGITS)
        return;
    char digits[SAFETENSORS_CHECKSUM_DIGITS + 1];
    at += sizeof key - 1;
    memset(at, '0', SAFETENSORS_CHECKSUM_DIGITS);
    safetensors_checksum(&(struct file_part){file, size}, 1, digits);
    memcpy(at, digits, SAFETENSORS_CHECKSUM_DIGITS);
}

#endif
