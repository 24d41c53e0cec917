/* The checks of `decant doctor`. Each adds findings and none stops at the first trouble; nothing is changed on the
 * machine, and nothing is left behind. */
#ifndef DECANT_CLI_DOCTOR_H
#define DECANT_CLI_DOCTOR_H

#include "cli/doctor_report.h"
#include "proto/run_config.h"
#include "worker/data/dataset.h"

/* What a run of a configuration needs, estimated from its shapes. */
struct doctor_needs {
    uint64_t parameters;       /* floats of the encoder, with the prototypes of a joint run */
    uint64_t checkpoint_bytes; /* of one step, both files */
    uint64_t checkpoints;      /* that are there at one time, at most */
    uint64_t memory_bytes;     /* of both servers and one worker, without activations */
};

/* ---- doctor_machine.c ---- */
void doctor_check_programs(struct doctor_report *r); /* the other three beside this one, of the same version */
void doctor_check_clock(struct doctor_report *r);
void doctor_check_cpu(struct doctor_report *r, const struct run_config *c); /* c may be NULL, also below */
void doctor_check_memory(struct doctor_report *r, const struct doctor_needs *needs);
void doctor_check_limits(struct doctor_report *r);

/* ---- doctor_keys.c ---- */
/* A warning for each choice (an objective, joint prototypes ...) that leaves keys which are set without any effect. */
void doctor_check_keys(struct doctor_report *r, const struct run_config *c);

/* ---- doctor_run.c ---- */
/* The images load; fills *train with what to free, or leaves it empty. */
void doctor_check_data(struct doctor_report *r, const struct run_config *c, struct dataset *train);
/* The architecture fits the images. False, with zeros in *out, when it does not. */
bool doctor_check_model(struct doctor_report *r, const struct run_config *c, const struct dataset *train,
                        struct doctor_needs *out);
void doctor_check_out(struct doctor_report *r, const struct run_config *c, const struct doctor_needs *needs);

/* ---- doctor_network.c ---- */
void doctor_check_endpoints(struct doctor_report *r, const struct run_config *c);
void doctor_check_redis(struct doctor_report *r, const struct run_config *c);

/* 1234567 as "1.2 MB". Returns out. */
const char *doctor_bytes(uint64_t bytes, char out[32]);

#endif
