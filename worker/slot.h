/* The arithmetic of a slot: a pure function of (seed, t, slot, weights of t, mixture of t) that gives a gradient,
 * new buffers and statistics. It comes in two parts, so that statistics leave before the student's work begins:
 *
 *   A  augment both views, teacher forward, E-step   -> the STATS message      (joint: neither E-step nor message)
 *   B  student forward, loss, backward               -> gradient, buffers, metrics
 *
 * There is one slot_workspace per compute thread. What part A leaves for part B is a slot_state, which any
 * slot_workspace can take up: the teacher's projections are kept, and the views are drawn again if other slots came
 * in between. This file knows the tensors of messages, but no socket and no lease; it reads the clock for the timing
 * metrics only. */
#ifndef DECANT_WORKER_SLOT_H
#define DECANT_WORKER_SLOT_H

#include "proto/manifest.h"
#include "proto/mixture_wire.h"
#include "proto/msg.h"
#include "proto/run_config.h"
#include "worker/data/dataset.h"

/* What all slot_workspaces of a process share, read-only: configuration, images, model, the run's manifest. */
struct slot_shared;
/* Keeps pointers to c and train; of a set that is not in memory (data.cache = none) threads of it read images ahead.
 * ERR_CONFIG names the key when the configuration does not fit the images. */
int slot_shared_new(const struct run_config *c, const struct dataset *train, struct slot_shared **out, struct error *e);
void slot_shared_free(struct slot_shared **s);
/* Model's manifest; joint: plus parameter "prototypes" (unit_rows, lr_scale, no clip, no decay); dino: plus buffer
 * "loss.center". */
const struct manifest *slot_manifest(const struct slot_shared *s);
void slot_initial(const struct slot_shared *s, float *params,
                  float *buffers); /* pure function of configuration and seed */
uint64_t slot_total_steps(const struct slot_shared *s);
/* That slot will be computed soon: its images may be read. Does nothing when they are in memory. */
void slot_read_ahead(const struct slot_shared *s, uint64_t step, uint32_t slot);
/* Why a part failed, when it was for an image that cannot be read; else false. */
bool slot_failure(const struct slot_shared *s, struct error *out);

struct slot_weights {
    const float *student, *teacher, *buffers;
};

enum { SLOT_METRICS = 11 };
/* metrics F64 in this order: loss, consistency, entropy, images, augment_s, forward_s, backward_s, estep_s,
 * mean_entropy, coding_rate, feature_rate */

/* What part A of a slot leaves for part B. */
struct slot_state {
    uint64_t step;
    uint32_t slot;
    double augment_s, forward_s, estep_s; /* time spent, seconds; augment_s with reading images, where they are read */
    float *z_teacher;                     /* (2b,D) raw projections */
    float *statistics; /* what the teacher contributes to the running statistics: model_buffer_contribution */
};
int slot_state_new(const struct slot_shared *s, struct slot_state **out);
void slot_state_free(struct slot_state **st);

struct slot_workspace;
int slot_workspace_new(const struct slot_shared *s, struct slot_workspace **out, struct error *e);
void slot_workspace_free(struct slot_workspace **w);

/* The slot's views, drawn before its weights are there; part A then finds them. Another slot's in between cost that
 * much time and nothing else. Does nothing when images must be read first. */
void slot_draw_ahead(struct slot_workspace *w, uint64_t step, uint32_t slot);
bool slot_drawn(const struct slot_workspace *w, uint64_t step, uint32_t slot); /* whether it holds those views */

/* Part A; fills *st. mixture and stats: both NULL, or a message to which encoding, tensors and scalars are added (NULL
 * in joint mode, and when the statistics are already known to be applied). 0, ERR_MEMORY, or that of slot_failure. */
int slot_part_a(struct slot_workspace *w, uint64_t step, uint32_t slot, const struct slot_weights *weights,
                const struct mixture_view *mixture, struct slot_state *st, struct msg *stats);
/* Part B: 0 or that of slot_failure. With the mixture of the loss (lag 1: the same; lag 0: version step + 1; joint:
 * NULL). grad (parameter_floats), buffers (buffer_floats) and metrics (SLOT_METRICS) are overwritten. */
int slot_part_b(struct slot_workspace *w, const struct slot_state *st, const struct slot_weights *weights,
                const struct mixture_view *mixture, float *grad, float *buffers, double *metrics);

#endif
