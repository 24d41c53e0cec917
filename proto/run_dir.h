/* The directory of a run, which both servers write and everyone reads:
 *
 *   OUT/checkpoints/step-NNNNNN/encoder.safetensors    by the parameter server
 *   OUT/checkpoints/step-NNNNNN/mixture.safetensors    by the prototype server, same step; joint runs have none, and a
 *                                                      stream (run.mode) has nothing else
 *   OUT/checkpoints/latest                             text "step-NNNNNN", by whoever finds the step complete
 *   OUT/checkpoints/best, candidate                    text likewise, and more behind it: steps that are kept whatever
 *                                                      their age, by who evaluates the run (decant eval --note)
 *   OUT/checkpointed                                   there once the first step was complete
 *   OUT/generation-SERVER                              decimal: how often that server has been started or gone back
 *   OUT/lock-SERVER                                    held by the one process of that server; "HOST:PID" for people
 *
 * Every file is written atomically (common/files.h), so a crash leaves a missing file or a whole one; one that is
 * damaged later fails its checksum. A step counts for resuming only when all its files are sound, so that both servers
 * choose the same step without talking to each other.
 *
 * A run that has no checkpoint begins at the start, which is right for one that was interrupted early and wrong for one
 * whose checkpoints were lost. OUT/checkpointed tells the two apart; what may not be read is not absent. */
#ifndef DECANT_PROTO_RUN_DIR_H
#define DECANT_PROTO_RUN_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "common/error.h"
#include "proto/run_config.h"
#include "proto/server.h"

enum { RUN_PATH_MAX = 1280 }; /* run.out plus the names below it */

#define ENCODER_FILE "encoder.safetensors"
#define MIXTURE_FILE "mixture.safetensors"

/* "OUT/checkpoints/step-NNNNNN/FILE"; file NULL: the step's directory. ERR_RANGE when run.out is too long. */
int run_dir_step_path(char path[RUN_PATH_MAX], const struct run_config *c, uint64_t step, const char *file,
                      struct error *e);
/* Makes the step's directory and gives the path of `file` in it. */
int run_dir_prepare_step(char path[RUN_PATH_MAX], const struct run_config *c, uint64_t step, const char *file,
                         struct error *e);
/* Called after a server wrote its file. When all files of the step are there: points `latest` at it and deletes the
 * steps that run.checkpoint_keep, run.checkpoint_keep_every and the pointers do not keep, and what is left of steps
 * that were never completed: each server writes in order, so that nobody will come back to one below a complete one.
 * Never one of the newest complete steps, so whatever either server is about to resume from stays. */
int run_dir_step_written(const struct run_config *c, uint64_t step, struct error *e);
/* Called by a server that could not write its file of the step and goes on without: what the other one wrote for it is
 * of no use, and takes space that may be missing. Does nothing to a complete step. */
void run_dir_step_abandoned(const struct run_config *c, uint64_t step);
/* All files of the step are there. */
bool run_dir_step_complete(const struct run_config *c, uint64_t step);

/* The step that a pointer (latest, best, candidate) names: its first word. ERR_NOT_FOUND, ERR_IO; ERR_FORMAT when
 * that is not a step. */
int run_dir_read_pointer(const char *path, uint64_t *step, struct error *e);

/* Whether there is a step to resume from (*any), sound or not, or the run may begin: 0. The two errors above
 * otherwise. */
int run_dir_check_resume(const struct run_config *c, bool *any, struct error *e);
/* To be called before a run begins at the start although there was one: forgets that. ERR_IO. */
int run_dir_start_over(const struct run_config *c, struct error *e);

/* The newest step whose files are all there, unread; false when there is none. */
bool run_dir_newest(const struct run_config *c, uint64_t *step);

/* "step-000120" -> 120; false for any other name, also for another way to write the number. */
bool run_dir_parse_step(const char *name, uint64_t *step);

/* Loads the caller's own file of a step; 0 or ERR_*. */
typedef int run_dir_load(void *arg, const char *path, uint64_t step, struct error *e);
/* Calls load with the path of `file` for the newest step, at or below step_max, whose files are all sound; goes back
 * a step, with a warning, when one is not or load says ERR_FORMAT, ERR_IO or ERR_NOT_FOUND. ERR_NOT_FOUND when there
 * is no complete step: a run that has only begun. ERR_STATE when there has been one (and step_max is UINT64_MAX, so
 * that all are looked at), ERR_IO when the directory may not be read or is none: such a run would begin again, or
 * could not write its next checkpoint. ERR_FORMAT when there are complete ones, but all are damaged: starting over
 * would quietly lose them. Other errors of load end the search for the same reason. When `latest` names no complete
 * step it is pointed at the step that was loaded. */
int run_dir_resume(const struct run_config *c, const char *file, uint64_t step_max, run_dir_load *load, void *arg,
                   struct error *e);

/* Makes run.out and keeps every other process of `holder` (a server_name, or "launcher") and host out of it until *fd
 * is closed or this process ends. ERR_STATE names the process that is in. */
int run_dir_lock(const struct run_config *c, const char *holder, int *fd, struct error *e);

/* Whether the lock that fd holds is still the one in run.out: ERR_STATE when the directory, or the file, was removed or
 * replaced, so that another process may be in. To be asked before anything is written there. */
int run_dir_lock_held(const struct run_config *c, const char *holder, int fd, struct error *e);

/* To be called with the lock held. Raises the start counter of `server` durably, before
 * anything is said to the network. ERR_FORMAT when the file is not a number. */
int run_dir_raise_generation(const struct run_config *c, enum server server, uint64_t *generation, struct error *e);

/* The newest generation of a server, its own or another's; 0 before its first start, UINT64_MAX when the file cannot be
 * read. */
uint64_t run_dir_generation(const struct run_config *c, enum server server);

#endif
