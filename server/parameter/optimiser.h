/* The optimisers: how a gradient moves a flat vector of parameters. Every operand is out of place, because the
 * version being read may still be on the wire or in a checkpoint that is being written; a destination may also be
 * its own source.
 *
 *   g      = scale * sum              scale: 1/M, times the clipping factor where the entry takes part in clipping
 *   a      = lr * lr_scale            per entry
 *
 *   AdamW  m' = b1 m + (1 - b1) g,  v' = b2 v + (1 - b2) g^2
 *          p' = p - a decay p - a (m' / (1 - b1^n)) / (sqrt(v' / (1 - b2^n)) + epsilon)          n = step + 1
 *          (Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, with decay multiplied by lr)
 *   SGD    u' = momentum u + g
 *          p' = p - a decay p - a u'            (decay is decoupled here too, so that it never enters the momentum)
 *
 * Decay is zero for entries whose manifest says so. */
#ifndef DECANT_SERVER_PARAMETER_OPTIMISER_H
#define DECANT_SERVER_PARAMETER_OPTIMISER_H

#include <stddef.h>
#include <stdint.h>
#include "proto/manifest.h"
#include "proto/run_config.h"

enum { MOMENTS_MAX = 2 }; /* vectors of state as long as the parameters: AdamW m, v; SGD u */

struct optimiser {
    enum optimiser_name name;
    double beta1, beta2, epsilon; /* AdamW */
    double momentum;              /* SGD */
    double decay;                 /* decoupled, multiplied by the entry's learning rate */
    double clip;                  /* largest global norm of the mean gradient; 0 does not clip */
};

struct optimiser optimiser_from_config(const struct run_config *c);
unsigned optimiser_moments(enum optimiser_name name);                         /* vectors of state: 2 or 1 */
const char *optimiser_moment_name(enum optimiser_name name, unsigned moment); /* "adam_m", "adam_v"; "sgd_v" */

/* Norm of the mean gradient (sum / slots) over the entries that clip, in double and in manifest order. Infinity or NaN
 * when any element of any entry overflowed in the sum. sum: (parameter_floats). */
double optimiser_gradient_norm(const struct manifest *m, const float *sum, double slots);
/* What clipped gradients are multiplied by: clip / norm when the norm exceeds clip, else 1. */
double optimiser_clip_factor(const struct optimiser *o, double norm);

/* The numbers of one entry at one step. */
struct optimiser_rate {
    uint64_t step;
    double lr;    /* lr(t) times the entry's lr_scale */
    double decay; /* 0 when the entry does not decay */
    double scale; /* of the summed gradient */
};

/* A run of n floats inside an entry. Sources and destinations of the same vector may be equal, never partly overlap. */
struct optimiser_span {
    const float *sum;                  /* summed gradient */
    const float *from;                 /* parameters */
    const float *moments[MOMENTS_MAX]; /* the first optimiser_moments() are used */
    float *to, *moments_to[MOMENTS_MAX];
    size_t n;
};

void optimiser_apply(const struct optimiser *o, const struct optimiser_rate *rate, const struct optimiser_span *s);

#endif
