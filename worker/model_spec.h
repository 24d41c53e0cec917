/* Turns a run's configuration and the images' size into the architecture. Workers and the evaluation both use it, so
 * that they agree on which network a configuration means. */
#ifndef DECANT_WORKER_MODEL_SPEC_H
#define DECANT_WORKER_MODEL_SPEC_H

#include "common/error.h"
#include "proto/run_config.h"
#include "worker/data/dataset.h"
#include "worker/nn/model.h"

/* ERR_CONFIG names the key when encoder.widths is not a list of 1..CONV_STAGES_MAX positive numbers. The precision is
 * float32 whatever encoder.precision says: that is of training (worker/slot_shared.c), and weights are float32 in any
 * case. */
int model_spec_of(const struct run_config *c, const struct dataset *images, struct model_spec *out, struct error *e);
/* ERR_CONFIG when this process cannot multiply as encoder.precision wants, and what to do. */
int model_precision_check(const struct run_config *c, struct error *e);

#endif
