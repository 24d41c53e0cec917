/* The parameter manifest: which tensors the encoder's flat parameter vector consists of, and how the optimiser treats
 * each. The worker's model writes it, the parameter server reads it and knows nothing else about the network. On the
 * wire and in checkpoints' metadata it is JSON:
 *   {"parameters":[{"name":"conv1.weight","shape":[24,9],"decay":true,"clip":true,"unit_rows":false,"lr_scale":1}],
 *    "buffers":[{"name":"head.bn1.mean","shape":[256],"momentum":0.1}]} */
#ifndef DECANT_PROTO_MANIFEST_H
#define DECANT_PROTO_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/buf.h"
#include "common/error.h"
#include "common/safetensors.h"

enum { MANIFEST_ENTRIES_MAX = 1024 };

struct manifest_entry {
    char name[TENSOR_NAME_MAX];
    uint32_t rank;
    uint64_t shape[TENSOR_RANK_MAX];
    size_t offset, count; /* floats, into the flat vector of its kind */
    bool decay;           /* weight decay applies (matrices) */
    bool clip;            /* takes part in the global gradient norm and its clipping */
    bool unit_rows;       /* rows are scaled to unit length after each update (joint prototypes) */
    double lr_scale;      /* multiplies the learning rate */
    double momentum;      /* buffers: value = (1 - momentum) value + momentum * mean over slots */
};

struct manifest {
    struct manifest_entry *parameters, *buffers;
    size_t parameter_count, buffer_count; /* entries */
    size_t parameter_floats, buffer_floats;
};

void manifest_init(struct manifest *m);
void manifest_fini(struct manifest *m);
/* Appends; offset and count are filled in. A name is parts of letters, digits, '_' and '-' with single dots between
 * them. ERR_RANGE on another or a duplicate name, a zero dimension, or over the limits. */
int manifest_add_parameter(struct manifest *m, const struct manifest_entry *entry);
int manifest_add_buffer(struct manifest *m, const struct manifest_entry *entry);
int manifest_copy(struct manifest *out, const struct manifest *m);
/* A learning rate of 0 leaves an entry exactly as it is, which the teacher's average, rounding, would not. Rows of unit
 * length are renormalised all the same. */
bool manifest_entry_is_frozen(const struct manifest_entry *e);
bool manifest_equal(const struct manifest *a, const struct manifest *b);
int manifest_to_json(const struct manifest *m, struct buf **out); /* canonical: same manifest, same bytes */
int manifest_from_json(const void *text, size_t size, struct manifest *out, struct error *e);

#endif
