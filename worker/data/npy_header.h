/* The header of NumPy's .npy format: 93 'N' 'U' 'M' 'P' 'Y', major, minor, the length of what follows (little-endian,
 * u16 in version 1, u32 in 2 and 3), then a Python dictionary as text,
 *     {'descr': '|u1', 'fortran_order': False, 'shape': (60000, 28, 28), }
 * padded with blanks to a newline; then the values, last dimension fastest. Only what numpy.save writes for plain
 * arrays is read: no structured types, no other expressions, keys in any order, each exactly once. */
#ifndef DECANT_WORKER_DATA_NPY_HEADER_H
#define DECANT_WORKER_DATA_NPY_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/error.h"

enum { NPY_RANK_MAX = 4, NPY_PREAMBLE = 8, NPY_PREAMBLE_MAX = 12 };

struct npy_header {
    char kind;       /* 'b' bool, 'u', 'i', 'f': of these, only uint8 images and integer labels are read */
    uint32_t width;  /* bytes of a value: 1, 2, 4, 8, 16 */
    bool big_endian; /* values of more than one byte */
    uint32_t rank;
    uint64_t dims[NPY_RANK_MAX]; /* each below 2^32 */
};

/* Bytes before the dictionary, and its length, from the first NPY_PREAMBLE_MAX bytes. 0, or ERR_FORMAT, ERR_RANGE. */
int npy_preamble(const uint8_t bytes[NPY_PREAMBLE_MAX], size_t *preamble, size_t *length, struct error *e);
/* "float32" and the like. */
void npy_type_name(const struct npy_header *h, char out[16]);
/* The dictionary. where is named in errors, as far as their text has room for what to do. */
int npy_header_parse(const char *text, size_t length, const char *where, struct npy_header *out, struct error *e);

#endif
