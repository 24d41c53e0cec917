/* NumPy's .npz: a zip archive, stored without compression, of one .npy file for each array.
 *   NAME.npy = 93 4e 55 4d 50 59 01 00, header length (u16, little-endian), header, data
 * The header is a Python dictionary literal, padded with blanks so that the data begin at a multiple of 64 bytes.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef DECANT_CLI_NPZ_WRITE_H
#define DECANT_CLI_NPZ_WRITE_H

#include <stddef.h>
#include "common/error.h"
#include "common/safetensors.h"

/* Atomic, like safetensors_write; the same arrays give the same bytes. */
int npz_write(const char *path, const struct tensor_view *tensors, size_t n, struct error *e);

#endif
