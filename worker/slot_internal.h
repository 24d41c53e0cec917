/* Inside the slots only: what they share and what a thread needs for one.
 *
 *   slot_shared.c     options, models, manifest, first weights; the state between part A and part B
 *   slot_workspace.c  a thread's memory
 *   slot.c            views, part A, part B
 *
 * A slot_workspace holds nothing but scratch memory, copies of what slot_shared fixes, and three caches that are keyed
 * by what they hold: the views of (step, slot), CARP's permutation of a step, the E-step's operand of a mixture
 * version. So a slot's bytes cannot depend on what was computed before. */
#ifndef DECANT_WORKER_SLOT_INTERNAL_H
#define DECANT_WORKER_SLOT_INTERNAL_H

#include "worker/data/augment.h"
#include "worker/data/image_feed.h"
#include "worker/estep.h"
#include "worker/loss/feature_rate.h"
#include "worker/loss/loss.h"
#include "worker/nn/model.h"
#include "worker/slot.h"

struct slot_shared {
    const struct run_config *config;
    const struct dataset *train;
    struct image_feed *feed; /* NULL when images are in memory */
    struct model *model;
    struct model *local_model; /* the same for images of local views' size; NULL without these */
    struct manifest manifest;
    struct augment_options augment, local_augment;
    struct loss_options loss; /* tau_t of step 0 */
    bool joint;
    uint32_t b, K, D, local; /* local: views of that kind */
    uint64_t samples, steps_per_epoch, total_steps;
    size_t image_floats, local_floats; /* of a view, of a local one */
    size_t prototypes_at;              /* offset into the parameters, when joint */
    size_t center_at;                  /* offset into the buffers, when dino */
};

struct slot_workspace {
    const struct slot_shared *shared;
    struct model_workspace *workspace, *local_workspace;
    struct loss_workspace *loss;
    struct feature_rate *rate;    /* NULL without that term, like the next two */
    float *features, *d_features; /* (2b,F) */
    struct estep *estep;          /* NULL when joint */
    float *views;                 /* (2b,H,W,C) */
    float *local_views;           /* (local b,side,side,C), view by view; NULL without, like the next */
    float *local_grad;            /* (the model's parameters) */
    float *z, *dz;                /* ((2 + local) b,D) */
    float *h;                     /* (2b,D) */
    float *images;                /* (b,H,W,C) standardised, for a mixture of images; NULL for one of views */
    float *prototypes[2];         /* (K,D) unit rows, when joint: student's, teacher's */
    uint32_t *order;              /* (K) carp's permutation */
    bool views_held, order_held;  /* whether the caches hold anything, and of what: */
    uint64_t views_step, order_step;
    uint32_t views_slot;
    double ahead_s;      /* spent on views that no part A has asked for yet */
    uint32_t *samples;   /* (b) of a slot; with a feed */
    bool ahead;          /* the thread has computed something */
    uint64_t ahead_step; /* the newest step that it did */
};

/* tau_t(step) of `total`: constant, but for dino's linear warm-up. */
float slot_teacher_temperature(const struct run_config *c, uint64_t step, uint64_t total);
/* Whether the mixture is one of images as they are, not of views. */
bool slot_learns_from_images(const struct slot_shared *s);

#endif
