/* Naming a network's tensors in its manifest and giving them their first values. Every initial value is a pure function
 * of (seed, index of the tensor in the manifest). */
#ifndef DECANT_WORKER_NN_PARAMETERS_H
#define DECANT_WORKER_NN_PARAMETERS_H

#include "proto/manifest.h"
#include "worker/nn/real.h"

/* Where a tensor is in the flat vector. */
struct parameter {
    size_t offset, count;
    uint32_t index;
};

/* Appends "PREFIX.NAME"; matrices decay, vectors do not. 0 or the manifest's error. */
int parameter_matrix(struct manifest *m, const char *prefix, const char *name, uint64_t rows, uint64_t columns,
                     struct parameter *out);
int parameter_vector(struct manifest *m, const char *prefix, const char *name, uint64_t n, struct parameter *out);

void parameter_fill(const struct parameter *p, real value, real *params);
void parameter_uniform(const struct parameter *p, uint64_t seed, double bound, real *params); /* U(-bound, bound) */
/* N(0, deviation^2) cut at +-2, which for the deviations in use here cuts nothing. */
void parameter_normal(const struct parameter *p, uint64_t seed, double deviation, real *params);

#endif
