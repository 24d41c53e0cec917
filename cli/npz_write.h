/* NumPy's .npz: a zip archive, stored without compression, of one .npy file for each array.
 *   NAME.npy = 93 4e 55 4d 50 59 01 00, header length (u16, little-endian), header, data
 * The header is a Python dictionary literal, padded with blanks so that the data begin at a multiple of 64 bytes.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#ifndef DECANT_CLI_NPZ_WRITE_H
#define DECANT_CLI_NPZ_WRITE_H

#include <stddef.h>
#include "common/error.h"
#include "common/safetensors.h"

/* Atomic, like safetensors_write; the same arrays give the same bytes. The last `texts` of the n arrays, U32 (rows,
 * width), are text: rows strings of width code points, filled up with zeros (NumPy's <U). */
int npz_write(const char *path, const struct tensor_view *tensors, size_t n, size_t texts, struct error *e);

enum { NPY_HEADER_BYTES = 512 };
/* What stands before the data of a .npy file, for a type and a shape as Python writes them ("'<f4'", "(2, 3)"), of 350
 * bytes together at most. Returns how many bytes. */
size_t npy_header_write(const char *type, const char *shape, char out[NPY_HEADER_BYTES]);

#endif
