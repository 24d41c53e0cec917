/* The arithmetic of a slot, the pure function of DESIGN: (seed, t, slot, weights_t, mixture_t) -> gradient, buffers, statistics.
 * In two parts, so that statistics leave before the student's work begins:
 *   A  augment both views, teacher forward, E-step -> STATS message         (joint: no E-step, no message)
 *   B  student forward, loss, backward -> gradient, buffers, metrics
 * One slot_worker per compute thread. Knows messages' tensors but no socket, no lease, no clock. */
#ifndef DECANT_WORKER_SLOT_H
#define DECANT_WORKER_SLOT_H

#include "common/buf.h"
#include "proto/manifest.h"
#include "proto/mixture_wire.h"
#include "proto/msg.h"
#include "proto/run_config.h"
#include "worker/data/dataset.h"

/* What every slot_worker of a process shares, read-only: configuration, images, model, the run's manifest. */
struct slot_shared;
int slot_shared_new(const struct run_config *c, const struct dataset *train, struct slot_shared **out, struct error *e);
void slot_shared_free(struct slot_shared **s);
/* Model's manifest; joint: plus parameter "prototypes" (unit_rows, lr_scale, no clip, no decay); dino: plus buffer "loss.center". */
const struct manifest *slot_manifest(const struct slot_shared *s);
void slot_initial(const struct slot_shared *s, float *params, float *buffers); /* pure function of configuration and seed */
uint64_t slot_total_steps(const struct slot_shared *s);

struct slot_weights { const float *student, *teacher, *buffers; };

enum { SLOT_METRICS = 8 };
/* metrics F64 in this order: loss, consistency, entropy, images, augment_s, forward_s, backward_s, estep_s */

struct slot_worker;
int slot_worker_new(const struct slot_shared *s, struct slot_worker **out, struct error *e);
void slot_worker_free(struct slot_worker **w);

/* Part A. Keeps views and teacher projections inside w for part B of the same slot. stats: NULL, or a message to which encoding,
 * tensors and scalars are added (NULL in joint mode, and when the statistics are already known to be applied). */
int slot_part_a(struct slot_worker *w, uint64_t step, uint32_t slot, const struct slot_weights *weights,
                const struct mixture_view *mixture, struct msg *stats);
/* Part B, with the mixture of the loss (lag 1: the same; lag 0: version step + 1; joint: NULL).
 * grad (parameter_floats), buffers (buffer_floats) and metrics (SLOT_METRICS) are overwritten. */
int slot_part_b(struct slot_worker *w, const struct slot_weights *weights, const struct mixture_view *mixture,
                float *grad, float *buffers, double *metrics);

#endif
