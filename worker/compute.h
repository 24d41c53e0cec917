/* The threads that compute: each has a slot_workspace and takes jobs from one queue. Finished parts are reported on
 * the loop's thread. Part A of a job is reported while its part B is still being computed, so that statistics leave
 * at once; the thread no longer touches what part A produced then. */
#ifndef DECANT_WORKER_COMPUTE_H
#define DECANT_WORKER_COMPUTE_H

#include <uv.h>
#include "worker/session.h"
#include "worker/slot.h"

struct compute;

/* A part of a job is done; on the loop's thread. part: SLOT_PART_A or SLOT_PART_B. */
typedef void compute_on_part(void *arg, struct slot_job *job, unsigned part);

struct compute_options {
    const struct slot_shared *shared;
    uint32_t threads;
    uint32_t jobs_max; /* job indices are below this; that many are never in the queue at a time */
    compute_on_part *on_part;
    void *arg;
};

int compute_new(uv_loop_t *loop, const struct compute_options *o, struct compute **out, struct error *e);
void compute_submit(struct compute *c, struct slot_job *job);
/* That job will be submitted as soon as its weights come: a thread that has nothing to do draws its views. May be said
 * again; at most one for each thread is remembered. */
void compute_expect(struct compute *c, uint64_t step, uint32_t slot);
/* Waits for the jobs that are being computed, drops queued ones and unreported parts, ends the threads; memory is
 * released on the loop. No callback comes after this. */
void compute_close(struct compute **c);

#endif
