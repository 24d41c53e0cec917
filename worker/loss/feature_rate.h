/* The coding rate of the encoder's features, before the projection head (loss.feature_rate): it keeps many directions
 * in use in what k-NN and linear probes read, where the term on embeddings only reaches through the head. */
#ifndef DECANT_WORKER_LOSS_FEATURE_RATE_H
#define DECANT_WORKER_LOSS_FEATURE_RATE_H

#include <stddef.h>
#include "worker/nn/real.h"

struct feature_rate;

/* For `rows` features of F dimensions; weight lambda, precision epsilon > 0. 0 or ERR_MEMORY. */
int feature_rate_new(size_t rows, size_t F, real weight, real epsilon, struct feature_rate **out);
void feature_rate_free(struct feature_rate **f);

/* R of the features (rows,F), their rows at unit length, in nats. d (rows,F): the gradient of -weight R. */
double feature_rate_of(struct feature_rate *f, const real *features, real *d);

#endif
