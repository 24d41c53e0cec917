/* The fingerprint of this process's arithmetic: a hash over a small fixed computation that goes through every kernel
 * which a slot goes through. Processes whose kernels round otherwise (another choice of ours, another core type of
 * OpenBLAS, another libm or compiler) have other fingerprints, and would give a run other bytes.
 *
 *   vec_*                              sums, exponentials, normalised rows
 *   views                              resampling, jitter
 *   convolutional and transformer model   forward and backward: tiles, GroupNorm, LayerNorm, BatchNorm, attention, GELU
 *   losses                             CARP, DINO, SwAV: softmax, Sinkhorn
 *   E-step and statistics              sgemm below and above OpenBLAS's limit for small products, and with a long inner
 *                                      dimension
 *   libm                               which picks its functions by processor as well
 *
 * Of the configuration it depends on encoder.precision alone: with bf16 the models are computed in that, too, since
 * processors that round alike in float32 need not do so there. It does not depend on data. Takes some milliseconds;
 * computed once, when a worker starts. */
#ifndef DECANT_WORKER_NUMERICS_H
#define DECANT_WORKER_NUMERICS_H

#include <stdint.h>
#include "proto/choices.h"

/* 1 to FINGERPRINT_MASK (proto/provenance.h). Call compute_thread_init and blas_single_threaded before, as for all that
 * computes; bf16: only where kernels_multiply_bf16. 0 or ERR_MEMORY. */
int numerics_fingerprint(enum encoder_precision precision, uint64_t *out);

#endif
