/* Safetensors files: 8 bytes little-endian header length N, N bytes of JSON, then the tensors' bytes.
 * https://github.com/huggingface/safetensors#format . We add to "__metadata__" a "checksum": xxh64 of the whole file in
 * which its own 16 hex digits read as zeros; it is checked on load, so that a flipped bit is found. The writer orders
 * tensors as given and serialises JSON in a fixed order: the same content gives the same bytes. A tensor must start at
 * a multiple of its element size: give wide elements first. */
#ifndef DECANT_COMMON_SAFETENSORS_H
#define DECANT_COMMON_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/error.h"

enum dtype { DTYPE_F32 = 1, DTYPE_F64 = 2, DTYPE_U32 = 3, DTYPE_U64 = 4, DTYPE_U8 = 5 };
size_t dtype_size(enum dtype t);      /* bytes, 0 for an unknown value */
const char *dtype_name(enum dtype t); /* "F32" ..., as in safetensors ("U32", "U64", "U8") */
int dtype_parse(const char *name, enum dtype *out);

enum { TENSOR_RANK_MAX = 4, TENSOR_NAME_MAX = 64 };

struct tensor_view {
    char name[TENSOR_NAME_MAX];
    enum dtype dtype;
    uint32_t rank; /* 0..TENSOR_RANK_MAX; 0 is a scalar */
    uint64_t shape[TENSOR_RANK_MAX];
    const void *data; /* not owned */
    size_t size;      /* bytes */
    /* NULL, but for a tensor that is written without ever being whole: then data is what its rows are made from, and
     * this makes n of them from `first` on, the same whenever it is called. */
    void (*rows)(const void *data, uint64_t first, uint64_t n, void *to);
};

struct metadata_entry {
    char key[48];
    char value[512];
};

struct safetensors {
    struct buf *file; /* owns every view's bytes */
    struct tensor_view *tensors;
    size_t tensor_count;
    struct metadata_entry *metadata;
    size_t metadata_count;
};

int safetensors_write(const char *path, const struct tensor_view *tensors, size_t n, const struct metadata_entry *meta,
                      size_t n_meta, struct error *e); /* atomic; adds the checksum entry itself */
/* Everything is checked: lengths, offsets contiguous and in range, shape times dtype equals size, checksum if present.
 */
int safetensors_read(const char *path, struct safetensors *out, struct error *e);
void safetensors_fini(struct safetensors *s);
/* The tensor of that name with that dtype and shape, else NULL with *e set. */
const struct tensor_view *safetensors_find(const struct safetensors *s, const char *name, enum dtype dtype,
                                           uint32_t rank, const uint64_t *shape, struct error *e);
/* The U8 vector of that name, of any length, or NULL. */
const struct tensor_view *safetensors_bytes(const struct safetensors *s, const char *name);
const char *safetensors_meta(const struct safetensors *s, const char *key); /* NULL when absent */

#endif
